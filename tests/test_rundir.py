from __future__ import annotations

import enum
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import crashes
import numpy as np
import pytest
import yaml

from whet.errors import RunError
from whet.files import OsFiles, replace_file, sweep
from whet.journal import Journal
from whet.plain import differences, json_hash, to_json, to_yaml
from whet.rows import ROLLOUT_COLUMNS, ROLLOUT_EXTRAS
from whet.rundir import RunDir, describe_environment

CONFIG = {"optim": {"lr": 1e-6}, "steps": 3}


def new(path: Path, **options: Any) -> RunDir:
    return RunDir.create(path, CONFIG, origins={"optim.lr": "command line"}, environment={"threads": 1}, **options)


def filled(path: Path, steps: int) -> RunDir:
    run = new(path)
    for step in range(1, steps + 1):
        run.commit(step, metrics={"loss": 1 / step}, timing={"seconds": 0.1}, rollouts=[rollout(step)])
    return run


def rollout(step: int, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "run": "a",
        "stage": None,
        "step": step,
        "task_id": "task-1",
        "occurrence": 0,
        "index": 2,
        "prompt": "2 + 2 =",
        "completion": " 4\n\u2028π\ud800",
        "tokens": [5, 6],
        "source": [["sampled", 2]],
        "logprobs": np.array([-0.1, -0.25], dtype=np.float32),
        "advantage": 0.5,
        "reward": None,
        "parts": {"exact": 1.0},
        "stopped": "stop",
        "length": 2,
    }
    return row | changes


# ----------------------------------------------------------------------------------------------------------- plain text


def test_equal_values_are_equal_bytes_and_floats_come_back_exactly() -> None:
    class Reason(enum.Enum):
        STOP = "stop"

    value = {"b": [1, (2.5, None)], "a": {"x": np.float32(0.1), "y": np.arange(2), "z": Reason.STOP, "p": Path("a/b")}}
    assert to_json(value) == to_json(dict(reversed(list(value.items()))))
    read = json.loads(to_json(value))
    assert read == {"b": [1, [2.5, None]], "a": {"x": float(np.float32(0.1)), "y": [0, 1], "z": "stop", "p": "a/b"}}
    chance = np.random.default_rng(0).standard_normal(1000) * 10.0 ** np.arange(-500, 500).clip(-300, 300)
    assert json.loads(to_json(chance)) == chance.tolist()
    assert to_json("π\u2028\ud800").isascii()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), np.float32("nan"), np.array([1.0, np.inf])])
def test_numbers_that_are_none_are_refused_by_their_place(bad: Any) -> None:
    with pytest.raises(RunError, match=r"a\.b\[1\].*(nan|inf)"):
        to_json({"a": {"b": [0.0, bad]}})


def test_what_is_not_plain_is_refused() -> None:
    with pytest.raises(RunError, match="a is a set"):
        to_json({"a": {1}})
    with pytest.raises(RunError, match=r"a\[0\] has the key 1"):
        to_json({"a": [{1: 2}]})


def test_differences_name_leaves() -> None:
    assert differences({"a": {"b": 1, "c": [1]}}, {"a": {"b": 2, "c": [1]}, "d": None}) == [
        "a.b: 1 → 2",
        "d: absent → null",
    ]
    assert json_hash({"a": 1.0}) != json_hash({"a": 1})


def test_yaml_reads_back_as_the_config() -> None:
    tree = {
        "lr": 1e-06,
        "big": 1e22,
        "off": "off",
        "reference": "${sft.model}",
        "quoted": 'a "b"\\\n\tπ\U0001f600: # no comment',
        "number": "1e5",
        "list": [1, "two", {"x": [True, None]}],
        "empty": {},
        "nested": {"deep": {"value": -0.0}},
        "yes": "",
    }
    text = to_yaml(tree, {"lr": "command\nline", "nested": "my.yaml:3"})
    assert yaml.safe_load(text) == tree
    assert "lr: 1.0e-06  # command line\n" in text and "nested:  # my.yaml:3\n" in text


# ------------------------------------------------------------------------------------------------ creating, opening


def test_a_run_describes_itself(tmp_path: Path) -> None:
    environment, origins = describe_environment(threads=1), {"optim.lr": "command line"}
    with RunDir.create(tmp_path / "deep" / "a", CONFIG, origins=origins, environment=environment) as run:
        assert [row["event"] for row in run.rows("events")] == ["start"]
    read = RunDir.open(tmp_path / "deep" / "a")
    assert (read.config, read.origins, read.environment) == (CONFIG, origins, environment)
    assert yaml.safe_load((read.path / "config.yaml").read_text()) == CONFIG
    assert {"python", "platform", "processor", "threads", "versions"} <= set(environment)
    assert not [file for file in read.path.iterdir() if file.name.startswith(".tmp")]


def test_only_a_free_folder_becomes_a_run(tmp_path: Path) -> None:
    new(tmp_path / "a").close()
    with pytest.raises(RunError, match="already holds a run"):
        new(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").touch()
    with pytest.raises(RunError, match=r"not empty \(it has 'thesis.tex'\)"):
        new(tmp_path / "b")
    with pytest.raises(RunError, match="not a run folder"):
        RunDir.open(tmp_path / "b")
    (tmp_path / "a" / "config.json").unlink()
    for log in (tmp_path / "a").glob("*.jsonl"):
        log.unlink()
    new(tmp_path / "a").close()


def test_a_reader_takes_no_lock_and_may_not_write(tmp_path: Path) -> None:
    with filled(tmp_path / "a", 2) as writer:
        before = {file.name: file.read_bytes() for file in writer.path.iterdir() if file.is_file()}
        reader = RunDir.open(writer.path)
        assert [row["step"] for row in reader.rows("metrics")] == [1, 2]
        with pytest.raises(RunError, match="opened to read"):
            reader.append("evals", {"step": 1})
        with pytest.raises(RunError, match="takes no entries"):
            reader.journal.put(("a",), 1)
        assert before == {file.name: file.read_bytes() for file in writer.path.iterdir() if file.is_file()}


def test_a_damaged_description_is_an_error(tmp_path: Path) -> None:
    new(tmp_path / "a").close()
    (tmp_path / "a" / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"config\.json is not readable"):
        RunDir.open(tmp_path / "a")


HOLD = """
import sys, time
from whet.rundir import RunDir
run = RunDir.open(sys.argv[1], mode="resume")
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_process_is_refused_with_the_owners_name_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    new(tmp_path / "a").close()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "a")], stdout=subprocess.PIPE, env=environment
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match=rf"in use by process {holder.pid} on .* since \d{{4}}-"):
            RunDir.open(tmp_path / "a", mode="resume")
        RunDir.open(tmp_path / "a")
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()
    RunDir.open(tmp_path / "a", mode="resume").close()


def test_a_lock_is_held_within_one_process_too_and_given_back(tmp_path: Path) -> None:
    with new(tmp_path / "a"), pytest.raises(RunError, match="in use"):
        RunDir.open(tmp_path / "a", mode="resume")
    RunDir.open(tmp_path / "a", mode="resume").close()


def test_a_folder_that_cannot_be_written_to_is_said_at_the_start(tmp_path: Path) -> None:
    for code, said in [
        (errno.EROFS, "may not be written"),
        (errno.ENOSPC, "disk is full"),
        (errno.EIO, "failed write"),
    ]:
        with pytest.raises(RunError, match=said):
            new(tmp_path / str(code), files=crashes.failing_at(1, code, only="write"))
        new(tmp_path / str(code)).close()
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="could not make the run folder"):
        new(tmp_path / "file" / "a")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_said_at_the_start(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="may not be written"):
        new(tmp_path / "a")


# ----------------------------------------------------------------------------------------------------------------- rows


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
        with pytest.raises(RunError, match="did you mean 'metrics'"):
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
        run.append("rollouts", rollout(1, gold=0.5))
        row = next(run.rows("rollouts"))
        assert set(ROLLOUT_COLUMNS) <= set(row) <= {*ROLLOUT_COLUMNS, *ROLLOUT_EXTRAS}
        assert row["completion"] == " 4\n\u2028π\ud800"
        for wrong, said in [
            ({"logprobs": [0.1]}, "2 tokens and 1 logprobs"),
            ({"source": [["sampled", 3]]}, "sources for 3"),
            ({"advantages": 1}, "did you mean 'advantage'"),
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


# ------------------------------------------------------------------------------------------------------ rows set aside


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


# ------------------------------------------------------------------------------------------------------------- journal


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.jsonl", writable=True)
    yield journal
    journal.close()


def test_what_is_in_the_journal_is_never_asked_again(journal: Journal) -> None:
    journal.put_all([(("score", 1, "t", 0), {"value": 0.1, "parts": (1, 2)}), (("judge", "a"), None)])
    again = Journal(journal.path, writable=False)
    assert len(again) == 2 and again.get(("judge", "a")) is None and ("judge", "b") not in again
    assert journal.get(("score", 1, "t", 0)) == again.get(("score", 1, "t", 0)) == {"value": 0.1, "parts": [1, 2]}
    with pytest.raises(KeyError):
        again.get(("score", "1", "t", 0))


def test_a_key_names_one_answer(journal: Journal) -> None:
    journal.put(("a",), 1)
    size = journal.path.stat().st_size
    journal.put(("a",), 1)
    assert journal.path.stat().st_size == size
    with pytest.raises(RunError, match="already holds 1"):
        journal.put(("a",), 2)
    with pytest.raises(RunError, match="already holds 3"):
        journal.put_all([(("b",), 3), (("b",), 4)])
    assert ("b",) not in journal


def test_a_flipped_bit_in_the_journal_is_an_error_and_a_torn_end_is_not(journal: Journal) -> None:
    for key in range(3):
        journal.put(("a", key), key + 0.5)
    content = journal.path.read_bytes()
    for place in range(len(content) - 1):
        for bit in (0, 3, 5):
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            journal.path.write_bytes(flipped)
            with pytest.raises(RunError, match="checksum"):
                Journal(journal.path, writable=False)
    journal.path.write_bytes(content[:-5])
    assert len(Journal(journal.path, writable=False)) == 2


def test_a_torn_end_of_the_journal_is_set_aside_before_the_next_entry(tmp_path: Path) -> None:
    with new(tmp_path / "a") as run:
        run.journal.put_all([(("a",), 1), (("b",), 2)])
    path = tmp_path / "a" / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    with RunDir.open(tmp_path / "a", mode="resume") as run:
        assert ("a",) in run.journal and ("b",) not in run.journal
        run.journal.put(("b",), 3)
    journal = RunDir.open(tmp_path / "a").journal
    assert (journal.get(("a",)), journal.get(("b",))) == (1, 3)
    assert (tmp_path / "a" / "journal.set_aside-1.jsonl").read_bytes().startswith(b'{"key": ["b"]')


def test_a_journal_that_could_not_be_made_durable_takes_nothing_more(tmp_path: Path) -> None:
    for only in ("write", "fsync"):
        path = tmp_path / f"{only}.jsonl"
        Journal(path, writable=True).put(("a",), 1)
        journal = Journal(path, writable=True, files=crashes.failing_at(1, errno.EIO, only=only))
        with pytest.raises(RunError, match="failed write"):
            journal.put(("b",), 2)
        with pytest.raises(RunError, match="takes no entries"):
            journal.put(("c",), 3)
        assert ("b",) not in journal and len(Journal(path, writable=False)) == 1
        journal.close()


# ----------------------------------------------------------------------------------------------------- resuming, stages


def test_other_options_are_refused_and_another_environment_is_noted(tmp_path: Path) -> None:
    with new(tmp_path / "a") as run:
        with pytest.raises(RunError, match=r"optim\.lr: 1e-06 → 0\.1; steps: 3 → absent"):
            run.check_config({"optim": {"lr": 0.1}})
        run.check_config(CONFIG)
        assert run.check_environment({"threads": 1}) == []
        assert run.check_environment({"threads": 2}) == ["threads: 1 → 2"]
        assert list(run.rows("events"))[-1]["changed"] == ["threads: 1 → 2"]


def test_a_stage_is_created_then_resumed_and_finished_once(tmp_path: Path) -> None:
    with new(tmp_path / "a") as run:
        with run.stage(1, "sft", {"lr": 0.1}, origins={}) as stage:
            assert stage.path == run.path / "stages" / "01-sft" and stage.done is None
            stage.commit(1, metrics={"loss": 1.0}, timing={})
        with run.stage(1, "sft", {"lr": 0.1}, origins={}) as stage:
            assert stage.last_step == 1
            stage.mark_done({"final": "final"})
            assert stage.done == {"final": "final"}
        with pytest.raises(RunError, match=r"lr: 0\.1 → 0\.2"):
            run.stage(1, "sft", {"lr": 0.2}, origins={})
        with run.stage(1, "sft", {"lr": 0.1}, origins={}) as stage:
            assert stage.done == {"final": "final"}
            marker = stage.path / "done.json"
            replace_file(marker, marker.read_bytes().replace(b'"config_hash": "', b'"config_hash": "0'))
            with pytest.raises(RunError, match="another config"):
                _ = stage.done


def test_a_small_file_is_replaced_at_once(tmp_path: Path) -> None:
    target = tmp_path / "done.json"
    replace_file(target, b"old")
    for n in range(1, 20):
        try:
            replace_file(target, b"new", files=crashes.failing_at(n, errno.ENOSPC))
        except RunError:
            assert target.read_bytes() in (b"old", b"new")
            assert [file.name for file in tmp_path.iterdir()] == ["done.json"]
            replace_file(target, b"old")
        else:
            assert n > 4 and target.read_bytes() == b"new"
            return
    pytest.fail("the replacement never came to its end")


def test_a_write_that_takes_only_a_part_goes_on(tmp_path: Path) -> None:
    class Short(OsFiles):
        def write(self, descriptor: int, data: Any) -> int:
            return super().write(descriptor, memoryview(data)[:3])

    replace_file(tmp_path / "a", b"0123456789", files=Short())
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_leftovers_are_swept_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".tmp_3_99" / "sub").mkdir(parents=True)
    (tmp_path / ".tmp_3_99" / "sub" / "file").touch()
    (tmp_path / "kept").mkdir()
    (tmp_path / ".tmp_link").symlink_to(tmp_path / "kept")
    assert sweep(tmp_path) == [".tmp_3_99", ".tmp_link"]
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert sweep(tmp_path / "absent") == []


def test_importing_the_run_folder_imports_no_torch() -> None:
    code = "import sys, whet.rundir; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
