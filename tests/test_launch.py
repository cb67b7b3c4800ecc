"""What is said of a run that was broken off and went on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from loop_cases import letters, rows, save_tiny_model

import whet
from whet.errors import RewardError


def test_the_tables_seconds_are_those_of_all_sessions(tmp_path: Path) -> None:
    """The first one's step is made to have taken a thousand."""
    save_tiny_model(tmp_path / "model")
    calls: list[int] = []

    def score(completions: list[str], **columns: object) -> list[float | None]:
        calls.append(len(completions))
        if len(calls) == 2:
            raise KeyError("no such answer")
        return letters(completions)

    options: dict[str, Any] = {"model": tmp_path / "model", "data": rows("tasks"), "reward": score, "steps": 2}
    options |= {"prompts": 2, "group": 2, "max_new_tokens": 4}
    with pytest.raises(RewardError, match="step 1 is saved"):
        whet.run("grpo", out=tmp_path / "run", **options)
    (timing,) = (tmp_path / "run" / "stages").glob("*/timing.jsonl")
    timing.write_text(json.dumps({"seconds": 1000.0, "step": 1}) + "\n")
    run = whet.run("grpo", out=tmp_path / "run", resume=True, **options)
    (row,) = run.table
    assert 1000 < row["seconds"] < 1100
