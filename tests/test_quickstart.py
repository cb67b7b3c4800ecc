"""The quickstart: everything in one command, and over five seeds it learns what it says."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path

import pytest

import whet

SEEDS = (0, 1, 2, 3, 4)


def test_small_and_whole(tmp_path: Path) -> None:
    """Every stage, the table with its columns, the page, and a second call that repeats nothing."""
    small = {"demonstrations": 256, "ranked": 40, "steps": 2, "prompts": 12, "held": 40}
    run = whet.run("quickstart", out=tmp_path / "run", **small)
    rows = {row["stage"]: row for row in run.table}
    assert list(rows) == ["sft", "reward", "grpo", "dpo", "sft, arithmetic", "grpo, arithmetic"]
    for stage in ("grpo", "dpo"):
        assert set(rows[stage]["win_rate"]) >= {"value", "low", "high"}
        assert rows[stage]["kl"] is not None and rows[stage]["proxy"] is not None and rows[stage]["gold"] is not None
    assert rows["grpo, arithmetic"]["pass_at_1"] and rows["grpo, arithmetic"]["pass_at_8"]
    assert all(row["seconds"] > 0 for row in rows.values())
    page = run.report.read_text()
    assert "grpo, arithmetic" in page
    assert not re.search(r"""(?:src|href)=["']https?://|url\(["']?https?://""", page)
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*.safetensors")}
    again = whet.run("quickstart", out=tmp_path / "run", resume=True, **small)
    assert {path: path.stat().st_mtime_ns for path in again.path.rglob("*.safetensors")} == before
    assert again.table == run.table


@pytest.mark.slow
def test_five_seeds_reach_their_targets(tmp_path: Path) -> None:
    """Reward model near its ceiling and far from shuffled labels; DPO, GRPO and the verifier's GRPO ahead of SFT."""
    found: dict[str, list[float]] = {}

    def add(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    for seed in SEEDS:
        run = whet.run("quickstart", out=tmp_path / f"seed-{seed}", seed=seed)
        rows = {row["stage"]: row for row in run.table}
        pairs = json.loads((run.stages[1] / "done.json").read_text())["results"]["numbers"]
        control = whet.run("quickstart_control", out=tmp_path / f"control-{seed}", seed=seed)
        add("accuracy", rows["reward"]["accuracy"])
        add("ceiling", pairs["held_ceiling"])
        add("shuffled", next(row["accuracy"] for row in control.table if row["stage"] == "reward"))
        add("dpo", rows["dpo"]["win_rate"]["value"])
        add("grpo", rows["grpo"]["win_rate"]["value"])
        add("before", rows["sft, arithmetic"]["pass_at_1"]["value"])
        add("after", rows["grpo, arithmetic"]["pass_at_1"]["value"])
        add("seconds", sum(row["seconds"] for row in rows.values()))
    for name, values in found.items():
        print(f"{name}: {[round(v, 3) for v in values]} mean {statistics.mean(values):.3f}")
    mean = {name: statistics.mean(values) for name, values in found.items()}
    assert mean["accuracy"] >= 0.9 * mean["ceiling"]
    assert mean["accuracy"] >= mean["shuffled"] + 0.10
    assert mean["dpo"] >= 0.70 and mean["grpo"] >= 0.75
    assert mean["after"] >= mean["before"] + 0.10
    assert 0.2 <= mean["before"] <= 0.6
