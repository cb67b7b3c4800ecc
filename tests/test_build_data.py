"""Rows become what a loop learns from: limits of both sides, trees of rankings, labels with their twins."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tiny_tokenizer import tiny_tokenizer

from whet.build import data
from whet.data.config import DataConfig
from whet.data.reads import Reads
from whet.errors import DataError

MODEL: Any = SimpleNamespace(
    tokenizer=tiny_tokenizer(template=None), stop_ids=(), config=SimpleNamespace(max_position_embeddings=64)
)
AS_KTO = Reads(labels=True, mismatched=True)


def test_max_rows_holds_for_rows_given_in_code() -> None:
    rows = [{"prompt": str(i)} for i in range(5)]
    found = data.rows(DataConfig(path="code:data", max_rows=3), {"code:data": rows})
    assert [row.where for row in found] == ["data:1", "data:2", "data:3"]
    assert len(data.rows(DataConfig(path="code:data"), {"code:data": rows})) == 5


def given(learned: list[dict[str, Any]], held: list[dict[str, Any]], **limits: Any) -> tuple[list[Any], list[Any]]:
    """Two datasets as demonstrations, the held-out one with limits of its own."""
    objects, config = {"code:data": learned, "code:held": held}, DataConfig(path="code:data")
    other = DataConfig(path="code:held", **limits)
    return data.both(config, MODEL, objects, lambda found: None, data.dataset.demonstrations, held=other)


def shown(*sizes: int) -> list[dict[str, Any]]:
    return [{"prompt": f"{i}", "completion": "x" * size} for i, size in enumerate(sizes)]


def test_held_out_rows_have_the_limits_of_their_own_dataset() -> None:
    learned, held = given(shown(20, 20), shown(3, 20), max_length=8, overlong_limit=0.5)
    assert len(learned) == 2 and [rollout.text for rollout in held] == ["xxx"]
    with pytest.raises(DataError, match=r"held-out rows \(eval\.data\): 1 of 2 rows are too long"):
        given(shown(20), shown(3, 20), max_length=8)


def test_bad_held_out_rows_are_allowed_by_their_own_dataset() -> None:
    bad = [*shown(1), {"prompt": "a", "completion": ""}]
    assert len(given(shown(1), bad, max_bad_rows=1)[1]) == 1
    with pytest.raises(DataError, match=r"held-out rows \(eval\.data\): 1 row is bad"):
        given(shown(1), bad)
    with pytest.raises(DataError, match="rows to learn from: 1 row is bad"):
        given(bad, shown(1), max_bad_rows=1)


def test_a_held_out_dataset_without_rows_is_an_error() -> None:
    with pytest.raises(DataError, match=r"held-out rows \(eval\.data\): the dataset has no rows"):
        given(shown(1), [])


def rated(*rows: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"prompt": p, "completion": c, "label": bool(i % 2)} for i, (p, c) in enumerate(rows)]


def test_an_answer_behind_another_prompt_fits_the_context_and_cuts_are_counted() -> None:
    rows, notes = rated(("a", "x" * 20), ("b" * 20, "y"), ("c", "z")), list[Any]()
    config = DataConfig(path="code:data", max_length=24)
    trees, _ = data.trees(config, MODEL, {"code:data": rows}, notes.append, kind="rating loss", reads=AS_KTO)
    assert [max(len(rollout.tokens) for rollout in tree.rollouts) for tree in trees] == [24, 22, 3]
    assert "1 whose mismatched prompt" in notes[0].lines()[-1]


def test_a_side_with_one_prompt_is_named() -> None:
    many, one = rated(("a", "x"), ("b", "y")), rated(("a", "x"), ("a", "y"), ("a", "z"))
    config, other = DataConfig(path="code:many"), DataConfig(path="code:one")
    objects = {"code:many": many, "code:one": one}
    with pytest.raises(DataError, match=r"held-out rows \(eval\.data\): the 3 rated answers are all to one prompt"):
        data.trees(config, MODEL, objects, lambda found: None, kind="rating loss", reads=AS_KTO, held=other)
    with pytest.raises(DataError, match="rows to learn from: the 3 rated answers are all to one prompt"):
        data.trees(other, MODEL, objects, lambda found: None, kind="rating loss", reads=AS_KTO, held=config)


def test_fewer_rows_than_worlds_are_refused() -> None:
    with pytest.raises(DataError, match="max_rows is 1, but lab:chat\\+math/train shares rows among 2 worlds"):
        data.lab_parts(DataConfig(path="lab:chat+math/train", max_rows=1))
