"""A run's folder: made, locked, described, resumed, with its stages."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import crashes
import pytest
import yaml
from runs import CONFIG, filled, new

from whet.errors import RunError
from whet.files import replace_file
from whet.rundir import RunDir, describe_environment


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


def test_importing_the_run_folder_imports_no_torch() -> None:
    code = "import sys, whet.rundir; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
