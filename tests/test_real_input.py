"""The recipes on real weights and real human data: two steps of each, and (slow) what each claims."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import whet
from tests.paths import SHARED, need
from whet.launch import Run

NEEDED = {
    "babyllama_sft": ("data/models/babyllama-tok105", "data/tinystories-sample"),
    "hh_reward": ("data/models/stories260K", "data/hh-rlhf"),
    "hh_dpo": ("data/models/stories260K", "data/hh-rlhf"),
    "stories": ("data/models/stories260K", "data/tinystories-sample", "data/sentiment-labelled-sentences"),
}
SMALL: dict[str, dict[str, object]] = {
    "babyllama_sft": {"steps": 2, "batch": 2, "rows": 20, "max_length": 64, "pieces": 4},
    "hh_reward": {"reward.steps": 2, "control.steps": 2, "batch": 2, "max_rows": 60, "max_length": 160},
    "hh_dpo": {"dpo.steps": 2, "control.steps": 2, "batch": 2, "max_rows": 60, "max_length": 160},
    "stories": {
        "reward.steps": 2,
        "second_reward.steps": 2,
        "reward.eval.rows": 4,
        "second_reward.eval.rows": 4,
        "steps": 2,
        "prompts": 2,
        "group": 2,
        "held": 2,
        "max_new_tokens": 6,
    },
}


class Silent:
    """A display that shows nothing."""

    def say(self, text: str) -> None: ...


def run(name: str, out: Path, **options: object) -> Run:
    for path in NEEDED[name]:
        need(path)
    return whet.run(name, folder=str(SHARED / "data"), out=out, **options)


@pytest.mark.parametrize("name", list(SMALL))
def test_two_steps(name: str, tmp_path: Path) -> None:
    done = run(name, tmp_path / "run", seed=100, **SMALL[name])
    steps: dict[str, list[int]] = {}
    for row in done.rows("metrics"):
        steps.setdefault(row["stage"], []).append(row["step"])
    assert steps and all(seen == [1, 2] for seen in steps.values())
    assert done.table and done.report.is_file()


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]
