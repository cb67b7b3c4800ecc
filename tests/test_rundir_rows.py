"""Rows of a run: whole or left out, durable when it is said, set aside and never deleted."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import crashes
import pytest
from runs import CONFIG, filled, new, rollout

from whet.errors import RunError
from whet.rows import ROLLOUT_COLUMNS, ROLLOUT_EXTRAS
from whet.rundir import RunDir


def test_equal_runs_have_equal_bytes_apart_from_the_clock(tmp_path: Path) -> None:
    for name in "ab":
        filled(tmp_path / name, 3).close()
    for name in ("config.yaml", "config.json", "environment.json", "metrics.jsonl", "rollouts.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_metrics_refuse_clock_values_and_rows_need_a_step(tmp_path: Path) -> None:
    with new(tmp_path / "a") as run:
        for key in ("seconds", "time/step_seconds", "tokens_per_second"):
            with pytest.raises(RunError, match=f"write {key} to timing"):
                run.append("metrics", {"step": 1, key: 0.5})
        with pytest.raises(RunError, match="needs its step"):
            run.append("evals", {"gold": 1.0})
        with pytest.raises(RunError, match="did you mean metrics"):
            run.append("metric", {"step": 1})
        with pytest.raises(RunError, match="nan"):
            run.append("metrics", {"step": 1, "loss": float("nan")})
        assert not (run.path / "metrics.jsonl").exists()
        run.append("metrics", {"step": 1, "kl/beta": 0.1, "lifetime": 2, "time/steps": 3})


def test_steps_only_go_up(tmp_path: Path) -> None:
    with filled(tmp_path / "a", 2) as run, pytest.raises(RunError, match="step 2 comes after step 2"):
        run.commit(2, metrics={}, timing={})
    with RunDir.open(tmp_path / "a", mode="resume") as run, pytest.raises(RunError, match="step 1 comes after step 2"):
        run.commit(1, metrics={}, timing={})


def test_a_step_with_a_metrics_row_is_whole(tmp_path: Path) -> None:
    new(tmp_path / "a").close()
    for n in (1, 2, 3):
        files = crashes.failing_at(2 + n, errno.ENOSPC, only="write")  # after the probe's and the event's
        with RunDir.open(tmp_path / "a", mode="resume", files=files) as run:
            with pytest.raises(RunError, match="disk is full"):
                run.commit(n, metrics={"loss": 1.0}, timing={}, rollouts=[rollout(n)])
            assert run.last_step is None
            run.truncate_after(0)


def test_rows_are_durable_after_sync_and_the_journal_at_once(tmp_path: Path) -> None:
    log: list[tuple[str, Any]] = []
    files = crashes.ActingFiles(lambda _, name, arguments: log.append((name, arguments[0])))
    with new(tmp_path / "a", files=files) as run:
        run.commit(1, metrics={"loss": 1.0}, timing={}, rollouts=[rollout(1)])
        written = {descriptor for name, descriptor in log[-6:] if name == "write"}
        log.clear()
        run.sync()
        assert {descriptor for name, descriptor in log if name == "fsync"} >= written and len(written) == 3
        assert log[-1] == ("fsync_folder", run.path)
        log.clear()
        run.journal.put(("a",), 1)
        assert [name for name, _ in log] == ["append", "write", "fsync", "fsync_folder"]
        log.clear()
        run.journal.put(("b",), 1)
        assert [name for name, _ in log] == ["write", "fsync"]


def test_a_rollout_row_keeps_the_schema(tmp_path: Path) -> None:
    with new(tmp_path / "a") as run:
        run.append("rollouts", rollout(1, fault="candidate"))
        row = next(run.rows("rollouts"))
        assert set(ROLLOUT_COLUMNS) <= set(row) <= {*ROLLOUT_COLUMNS, *ROLLOUT_EXTRAS}
        assert row["completion"] == " 4\n\u2028π\ud800"
        for wrong, said in [
            ({"logprobs": [0.1]}, "2 tokens and 1 logprobs"),
            ({"source": [["sampled", 3]]}, "sources for 3"),
            ({"advantages": 1}, "did you mean advantage"),
        ]:
            with pytest.raises(RunError, match=said):
                run.append("rollouts", rollout(1, **wrong))
        short = rollout(1)
        del short["prompt"]
        with pytest.raises(RunError, match=r"misses .*'prompt'"):
            run.append("rollouts", short)


def test_rollouts_open_in_pandas(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    with new(tmp_path / "a") as run:
        run.extend("rollouts", [rollout(1, completion="π\u2028\n4", reward=0.25), rollout(2, completion="5")])
    frame = pandas.read_json(tmp_path / "a" / "rollouts.jsonl", lines=True)
    assert frame["completion"].tolist() == ["π\u2028\n4", "5"]
    assert frame["tokens"].tolist() == [[5, 6], [5, 6]]
    assert frame["reward"][0] == 0.25 and pandas.isna(frame["reward"][1])


def test_a_torn_last_line_is_left_out_and_set_aside_and_a_torn_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a"
    filled(path, 3).close()
    metrics = path / "metrics.jsonl"
    whole = metrics.read_bytes()
    for cut in range(1, len(whole.splitlines()[-1]) + 1):
        metrics.write_bytes(whole[:-cut])
        assert [row["step"] for row in RunDir.open(path).rows("metrics")] == [1, 2]
    with RunDir.open(path, mode="resume") as run:
        run.commit(3, metrics={"loss": 1 / 3}, timing={})
        assert list(run.rows("events"))[-1]["torn_bytes"] == {"metrics": 1}
    assert metrics.read_bytes() == whole
    assert (path / "metrics.set_aside-1.jsonl").read_bytes() == b"{"
    metrics.write_bytes(whole.replace(b'{"loss": 0.5', b'{"loss"; 0.5'))
    with pytest.raises(RunError, match=r"metrics\.jsonl, line 2 is not a row"):
        list(RunDir.open(path).rows("metrics"))


def test_a_row_after_a_failed_write_is_not_glued_to_its_remains(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "a", CONFIG, origins={}, environment={})
    run.close()
    files = crashes.failing_at(3, errno.ENOSPC, only="write")  # after the probe's and the event's
    with RunDir.open(tmp_path / "a", mode="resume", files=files) as run:
        with pytest.raises(RunError, match="disk is full"):
            run.append("evals", {"step": 1, "gold": 0.25})
        run.append("evals", {"step": 1, "gold": 0.5})
        assert list(run.rows("evals")) == [{"step": 1, "gold": 0.5}]


def test_a_folder_that_vanishes_under_the_run_is_an_error(tmp_path: Path) -> None:
    run = filled(tmp_path / "a", 1)
    for file in run.path.iterdir():
        file.unlink()
    with pytest.raises(RunError, match="folder is not there"):
        run.append("metrics", {"step": 2})


def test_rows_after_the_restored_step_are_set_aside_and_the_rest_are_the_same_bytes(tmp_path: Path) -> None:
    with filled(tmp_path / "a", 5) as run:
        run.append("evals", {"step": 4, "gold": 1.0})
        before = (run.path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        assert run.truncate_after(3) == {"metrics": 2, "timing": 2, "rollouts": 2, "evals": 1}
        assert (run.path / "metrics.jsonl").read_bytes() == b"".join(before[:3])
        assert (run.path / "metrics.set_aside-1.jsonl").read_bytes() == b"".join(before[3:])
        assert list(run.rows("events"))[-1]["lines"] == {"metrics": 2, "timing": 2, "rollouts": 2, "evals": 1}
        run.commit(4, metrics={"loss": 9.0}, timing={})
        assert run.truncate_after(3) == {"metrics": 1, "timing": 1}
        assert (run.path / "metrics.set_aside-2.jsonl").read_bytes() == b'{"loss": 9.0, "step": 4}\n'
        assert run.truncate_after(3) == {}
        assert run.last_step == 3


def test_zeros_behind_the_restored_step_go_and_damage_before_it_is_an_error(tmp_path: Path) -> None:
    with filled(tmp_path / "a", 4) as run:
        metrics = run.path / "metrics.jsonl"
        lines = metrics.read_bytes().splitlines(keepends=True)
        metrics.write_bytes(b"".join(lines[:2]) + bytes(7) + b"\n" + lines[3])
        assert run.truncate_after(2)["metrics"] == 2
        metrics.write_bytes(lines[0] + bytes(7) + b"\n" + lines[2])
        with pytest.raises(RunError, match="line 2 is not a row"):
            run.truncate_after(3)
        metrics.write_bytes(lines[0] + lines[3] + lines[1])
        with pytest.raises(RunError, match="line 3 belongs to step 2 or before"):
            run.truncate_after(2)


def test_killed_at_any_operation_of_a_resume_no_row_is_lost_and_the_rest_can_be_resumed() -> None:
    with crashes.swift_folder() as place:
        *killed, whole = crashes.run_campaigns(place, "rundir")["rundir"]
    assert len(killed) > 60 and all(outcome["code"] == -9 for outcome in killed) and whole["code"] == 0
    for outcome in (*killed, whole):
        assert outcome["steps"] == [1, 2, 3] and outcome["kept"] and outcome["journal"] == 1 and not outcome["left"], (
            outcome
        )
