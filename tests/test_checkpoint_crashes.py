"""Killed, out of power or on a failing disk: a save leaves the old checkpoint or the new one."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import crashes
import pytest
from states import IDENTITY, names, same, state_at

from whet.errors import CheckpointError
from whet.files import sweep
from whet.train.checkpoint import Keep, load_latest, save


@pytest.fixture
def swift() -> Iterator[Path]:
    with crashes.swift_folder() as place:
        yield place


@pytest.fixture(scope="module")
def outcomes() -> dict[str, list[dict[str, Any]]]:
    with crashes.swift_folder() as place:
        return crashes.run_campaigns(place, "checkpoint", "limited")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_whatever_operation_fails_a_good_checkpoint_stays_and_nothing_is_left_over(swift: Path, code: int) -> None:
    for n in range(1, 200):
        folder = swift / str(n)
        save(folder, 1, state_at(1), identity=IDENTITY)
        files = crashes.failing_at(n, code)
        try:
            save(folder, 2, state_at(2), identity=IDENTITY, keep=Keep(last=1), files=files)
        except CheckpointError as error:
            assert ("the disk is full" if code == errno.ENOSPC else "failed write") in str(error)
            loaded = load_latest(folder, identity=IDENTITY)
            assert loaded is not None and same(loaded.state, state_at(loaded.step)) and not loaded.rejected
            assert "step_2, which is saved" not in str(error) or loaded.step == 2
            assert not [name for name in names(folder) if name.startswith(".tmp_2")]
        else:
            assert n > 20, "the save has more operations than that"
            return
    pytest.fail("the save never came to its end")


def test_a_failed_fsync_is_not_tried_again(tmp_path: Path) -> None:
    files = crashes.failing_at(1, errno.EIO, only="fsync")
    with pytest.raises(CheckpointError, match="failed write"):
        save(tmp_path, 1, state_at(1), identity=IDENTITY, files=files)
    assert names(tmp_path) == []


def test_too_little_space_is_said_before_anything_is_written(tmp_path: Path) -> None:
    files = crashes.ActingFiles(lambda *_: None)
    files.free_bytes = lambda _: 100  # type: ignore[attr-defined]
    with pytest.raises(CheckpointError, match="twice its size"):
        save(tmp_path, 1, state_at(1), identity=IDENTITY, files=files)
    assert names(tmp_path) == []


def test_a_real_limit_of_size_fails_the_save_and_spares_the_older_one(
    outcomes: dict[str, list[dict[str, Any]]],
) -> None:
    assert outcomes["limited"] == [{"campaign": "limited", "code": 6, "step": 1, "left": ["step_1"]}]


def test_killed_at_any_operation_of_a_save_the_old_or_the_new_checkpoint_loads(
    outcomes: dict[str, list[dict[str, Any]]],
) -> None:
    *killed, whole = outcomes["checkpoint"]
    assert len(killed) > 30 and all(outcome["code"] == -9 for outcome in killed) and whole["code"] == 0
    assert all(outcome["good"] for outcome in (*killed, whole))
    steps = [outcome["step"] for outcome in (*killed, whole)]
    assert steps == sorted(steps) and set(steps) == {1, 2}, "old until the commit, new from then on"
    assert any(outcome["swept"] for outcome in killed)
    assert all(outcome["after"] == ["step_3"] for outcome in killed), "nothing is left over"
    assert any(name.startswith(".tmp_removed_1") for outcome in killed for name in outcome["before"])


def power_cuts(tmp_path: Path, *, lazy: bool) -> tuple[int, list[int | None]]:
    """What loads after each power cut during a save that keeps one; and after its end, the states possible then."""
    folder = tmp_path / "run"
    save(folder, 1, state_at(1), identity=IDENTITY)
    files = crashes.RecordingFiles(folder, lazy=lazy)
    save(folder, 2, state_at(2), identity=IDENTITY, keep=Keep(last=1), files=files)
    steps: list[int | None] = []
    for number, (count, tree) in enumerate(files.states.values()):
        place = tmp_path / f"cut_{number}"
        crashes.put_on_disk(tree, place)
        sweep(place)
        try:
            loaded = load_latest(place, identity=IDENTITY)
        except CheckpointError:
            loaded = None
        good = loaded is not None and same(loaded.state, state_at(loaded.step))
        steps.append(loaded.step if loaded is not None and good else None)
        if count == files.count and not lazy:
            assert steps[-1] == 2, "a save that has returned survives a power cut"
        shutil.rmtree(place)
    return len(files.states), steps


def test_after_a_power_cut_at_any_operation_the_old_or_the_new_checkpoint_loads(swift: Path) -> None:
    count, steps = power_cuts(swift, lazy=False)
    assert count > 20 and set(steps) == {1, 2}


def test_without_fsync_a_power_cut_would_lose_everything(swift: Path) -> None:
    _, steps = power_cuts(swift, lazy=True)
    assert None in steps, "the control: the replay above can tell a saver that does not sync"
