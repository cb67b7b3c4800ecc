"""Rows become what a loop learns from: limits of both sides, trees of rankings, labels with their twins."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tiny_tokenizer import tiny_tokenizer

from whet.build import data
from whet.data.config import DataConfig

MODEL: Any = SimpleNamespace(
    tokenizer=tiny_tokenizer(template=None), stop_ids=(), config=SimpleNamespace(max_position_embeddings=64)
)


def test_max_rows_holds_for_rows_given_in_code() -> None:
    rows = [{"prompt": str(i)} for i in range(5)]
    found = data.rows(DataConfig(path="code:data", max_rows=3), {"code:data": rows})
    assert [row.where for row in found] == ["data:1", "data:2", "data:3"]
    assert len(data.rows(DataConfig(path="code:data"), {"code:data": rows})) == 5
