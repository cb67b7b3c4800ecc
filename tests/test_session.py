"""When a run is saved: as often as it is told, and by the clock, so that a kill loses little."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kills import left
from loop_cases import CASES, Case, drive, save_tiny_model

from whet.metrics import Mean
from whet.rundir import RunDir
from whet.train import session as module
from whet.train.checkpoint import Identity
from whet.train.config import CheckpointConfig, EvalConfig
from whet.train.session import Session


def saved_steps(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    checkpoint: CheckpointConfig,
    *,
    steps: int,
    costs: float = 0.1,
    held_out: Sequence[float | None] = (),
) -> list[int]:
    """The steps that are saved where each takes 30 seconds, each save `costs`, and each measures a number, or none."""
    now, saved = [1000.0], []
    real = module.save

    def save(*arguments: Any, **options: Any) -> Path:
        now[0] += costs
        saved.append(arguments[1])
        return real(*arguments, **options)

    def evaluate(step: int) -> dict[str, float]:
        number = held_out[step - 1]
        return {"eval/length": 1.0} if number is None else {"eval/length": 1.0, "eval/reward": number}

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(module, "save", save)
    identity = Identity(config={}, tokenizer_hash="", data_fingerprint="")
    with RunDir.create(folder, {}, origins={}, environment={}) as run:
        session = Session(
            run,
            parts={},
            identity=identity,
            checkpoint=checkpoint,
            evaluation=EvalConfig(every=1),
            evaluate=evaluate if held_out else None,
        )
        for step in session.steps(steps):
            now[0] += 30
            session.commit(step, {"loss": Mean.of(1.0)})
    return saved


def kept(folder: Path) -> list[int]:
    """The steps of the checkpoints that are there."""
    return sorted(int(path.name.removeprefix("step_")) for path in (folder / "checkpoints").iterdir())


def test_a_run_is_saved_by_the_clock_and_at_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert saved_steps(monkeypatch, tmp_path / "a", CheckpointConfig(), steps=10) == [4, 8, 10]
    assert {path.name for path in (tmp_path / "a" / "checkpoints").iterdir()} == {"step_8", "step_10"}
    assert saved_steps(monkeypatch, tmp_path / "b", CheckpointConfig(every=3), steps=10) == [3, 6, 9, 10]
    assert saved_steps(monkeypatch, tmp_path / "c", CheckpointConfig(minutes=0), steps=10) == [10]


def test_saving_takes_no_more_than_a_twentieth_of_the_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A save of 15 seconds is due again after 300."""
    assert saved_steps(monkeypatch, tmp_path / "a", CheckpointConfig(), steps=30, costs=15) == [4, 14, 24, 30]


def test_saves_change_no_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    case = CASES["grpo"](tmp_path / "model")
    digests = []
    for name, minutes in (("a", 0.0), ("b", 1e-6)):
        config = case.config.model_copy(update={"checkpoint": CheckpointConfig(minutes=minutes)})
        monkeypatch.setattr(module, "SHARE", 1e6)
        drive(Case(config=config, objects=case.objects), tmp_path / name / "run")
        digests.append(
            {key: value for key, value in left(tmp_path / name).items() if "step_4" not in key and key != "done.json"}
        )
    assert digests[0] == digests[1] and any("step_5" in key for key in digests[0])
    assert (tmp_path / "b/run/stages/01-loop/checkpoints/step_4").is_dir()


def test_a_measurement_without_the_best_metric_is_no_candidate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No held-out answer of step 2 could be scored: the run goes on, says so, and keeps step 1 as the best."""
    config = CheckpointConfig(every=1, keep=1, minutes=0, best="eval/reward")
    assert saved_steps(monkeypatch, tmp_path / "a", config, steps=3, held_out=[0.5, None, 0.25]) == [1, 2, 3]
    assert kept(tmp_path / "a") == [1, 3]
    run = RunDir.open(tmp_path / "a")
    assert [row["text"] for row in run.rows("events") if row["event"] == "warning"] == [
        "step 2 has no eval/reward, so it cannot be the best checkpoint"
    ]
    assert [row.get("eval/reward") for row in run.rows("evals")] == [0.5, None, 0.25]


def test_the_best_step_is_saved_whenever_it_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without `every`, and with no save by the clock at hand; of equals the first stays."""
    numbers = [0.5, 0.25, 0.75, 0.5, 0.75, 0.25]
    config = CheckpointConfig(minutes=0, keep=1, best="eval/reward")
    assert saved_steps(monkeypatch, tmp_path / "a", config, steps=6, held_out=numbers) == [1, 3, 6]
    assert kept(tmp_path / "a") == [3, 6]
    least = CheckpointConfig(best="-eval/reward")
    assert saved_steps(monkeypatch, tmp_path / "b", least, steps=6, held_out=numbers) == [1, 2, 6]


def test_a_save_by_the_clock_replaces_none_that_was_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`keep` counts the checkpoints of `every`; one by the clock stays until the next save, the last step's stays."""
    config = CheckpointConfig(every=5, keep=2, minutes=1)
    then = {8: [5, 8], 13: [5, 10, 13], 16: [10, 15, 16], 17: [10, 15, 17]}
    for steps, there in then.items():
        folder = tmp_path / str(steps)
        saved_steps(monkeypatch, folder, config, steps=steps)
        assert kept(folder) == there
    assert saved_steps(monkeypatch, tmp_path / "all", config, steps=11) == [2, 4, 5, 7, 9, 10, 11]
