"""Numbers that are none, folders in use, broken checkpoints: nothing that was saved is lost."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from bad_input import DPO, RUN, SFT, in_a_users_folder
from console import CHATS, Whet, tree, write

from whet.errors import NumericsError
from whet.lock import take_lock


@pytest.fixture
def whet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Whet:
    return in_a_users_folder(monkeypatch, capsys, tmp_path)


def test_a_loss_that_is_not_finite(whet: Whet) -> None:
    said = whet(*SFT, "steps=3", "optim.lr=1e30", "optim.schedule=constant", "optim.warmup=0", "--out", "run")
    said.refused(NumericsError.exit_code, "not finite: ", "nothing was updated", "lower optim.lr", "step 1 is saved")
    assert [p.name for p in Path("run/stages/01-sft/checkpoints").iterdir()] == ["step_1"]


def test_a_second_process_on_the_same_folder(whet: Whet) -> None:
    words = (*DPO, "--out", "run")
    assert whet(*words).code == 0
    before = tree(Path("run"))
    lock = take_lock(Path("run"))
    try:
        held = tree(Path("run"))
        assert held.keys() == before.keys()
        whet(*words, "--resume").refused(RUN, "run is in use by process ", "wait for it, end it, or choose another")
        assert tree(Path("run")) == held
    finally:
        os.close(lock)
    assert whet(*words, "--resume").code == 0


def test_a_folder_that_is_not_empty(whet: Whet) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("precious")
    whet(*DPO, "--out", "mine").refused(RUN, "mine is not empty (it has 'thesis.txt'); choose another folder")
    assert tree(Path("mine"))["thesis.txt"] == b"precious"
    whet(*DPO, "--out", "mine", "--resume").refused(RUN, "mine is not a run folder")
    Path("file").write_text("x")
    whet(*DPO, "--out", "file").refused(RUN, "file")


def test_a_folder_that_holds_a_run(whet: Whet) -> None:
    assert whet(*DPO, "--out", "run").code == 0
    before = tree(Path("run"))
    whet(*DPO, "--out", "run").refused(RUN, "run already holds a run; resume it, or choose another folder")
    said = whet(*DPO, "seed=3", "--out", "run", "--resume")
    said.refused(RUN, "run was started with other options: params.seed: 0 → 3", "resume with the same ones")
    after = tree(Path("run"))
    assert {name for name in before if before[name] != after[name]} <= {".lock", "events.jsonl"}


@pytest.fixture(scope="module")
def three_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps with a checkpoint each, as a kill after the third leaves it."""
    import whet as api

    folder = tmp_path_factory.mktemp("three")
    keys = {"data.holdout": 0, "batch": 4, "checkpoint.every": 1, "checkpoint.keep": 3}
    data = write(folder / "chats.jsonl", CHATS)
    run = api.run("sft", model="lab:base", data=data, steps=4, out=folder / "run", **keys)
    (stage,) = run.stages
    for name in ("run/done.json", "run/table.json", "run/report.html"):
        (folder / name).unlink()
    (stage / "done.json").unlink()
    shutil.rmtree(stage / "final")
    return folder


def resume(folder: Path, three_steps: Path) -> tuple[tuple[str, ...], Path]:
    shutil.copytree(three_steps / "run", folder / "run")
    keys = ("data.holdout=0", "batch=4", "checkpoint.every=1", "checkpoint.keep=3")
    words = ("run", "sft", "model=lab:base", f"data={three_steps / 'chats.jsonl'}", "steps=4", *keys)
    return (*words, "--out", "run", "--resume"), folder / "run/stages/01-sft/checkpoints"


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)


@pytest.mark.parametrize("broken", ["cut", "flipped", "manifest", "gone"])
def test_a_broken_checkpoint_is_passed_over(whet: Whet, tmp_path: Path, three_steps: Path, broken: str) -> None:
    """The older one is taken, which is said, and the run ends as it would have."""
    words, checkpoints = resume(tmp_path, three_steps)
    weights = checkpoints / "step_4" / "policy.safetensors"
    if broken == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif broken == "flipped":
        flip(weights)
    elif broken == "manifest":
        flip(checkpoints / "step_4" / "MANIFEST.json")
    else:
        weights.unlink()
    said = whet(*words)
    assert said.code == 0 and "warning: step_4 was passed over: " in said.err, said
    stage = checkpoints.parent
    metrics = (three_steps / "run/stages/01-sft/metrics.jsonl").read_bytes()
    assert (stage / "metrics.jsonl").read_bytes() == metrics
    assert list(stage.glob("metrics.set_aside-*")) and list(checkpoints.glob("broken_step_4-*")), "nothing is deleted"


def test_checkpoints_that_are_all_broken(whet: Whet, tmp_path: Path, three_steps: Path) -> None:
    words, checkpoints = resume(tmp_path, three_steps)
    for weights in checkpoints.glob("*/policy.safetensors"):
        flip(weights)
    before = tree(tmp_path / "run")
    said = whet(*words).refused(RUN, "no checkpoint in ", "is whole (step_4: policy.safetensors was changed", "step_2:")
    assert "restore one from a copy" in said.sentence
    after = tree(tmp_path / "run")
    assert {name for name in before if before[name] != after.get(name)} <= {
        f"{place}{name}" for place in ("", "stages/01-sft/") for name in (".lock", "events.jsonl")
    }


@pytest.mark.parametrize("words", [("report", "runs"), ("report", "nowhere")])
def test_a_folder_that_is_no_run(whet: Whet, words: tuple[str, ...]) -> None:
    Path("runs").mkdir()
    whet(*words).refused(RUN, f"{words[1]} is not a run folder")
