"""Checkpoints come back in every bit, or are refused with the reason; the newest and the best stay."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import crashes
import pytest
import torch
from states import IDENTITY, names, same, state_at

from whet.errors import CheckpointError
from whet.train.checkpoint import Keep, best_step, load, load_latest, save


@pytest.fixture
def swift() -> Iterator[Path]:
    with crashes.swift_folder() as place:
        yield place


def test_every_kind_of_value_comes_back_in_every_bit(tmp_path: Path) -> None:
    path = save(tmp_path, 5, state_at(5), identity=IDENTITY, metrics={"gold": 0.5})
    loaded = load_latest(tmp_path, identity=IDENTITY)
    assert loaded is not None
    assert (loaded.path, loaded.step, loaded.metrics, loaded.rejected, loaded.warnings) == (
        path,
        5,
        {"gold": 0.5},
        (),
        (),
    )
    assert same(loaded.state, state_at(5))
    assert loaded.state["policy"]["weight"] is loaded.state["policy"]["tied"]
    assert not list(path.glob("*.pt")) and b"pickle" not in b"".join(file.read_bytes() for file in path.iterdir())


def test_tied_tensors_are_written_once_and_views_that_only_overlap_are_copies(tmp_path: Path) -> None:
    table = torch.randn(64, 64)
    path = save(
        tmp_path, 1, {"m": {"embed": table, "head": table, "row": table[3], "again": table.t()}}, identity=IDENTITY
    )
    loaded = load(path).state["m"]
    assert (path / "m.safetensors").stat().st_size < 2.1 * table.numel() * 4
    assert torch.equal(loaded["row"], table[3]) and torch.equal(loaded["again"], table.t())
    conjugate = torch.complex(torch.ones(2), torch.ones(2))
    kept = load(save(tmp_path, 2, {"m": {"a": conjugate, "b": conjugate.conj()}}, identity=IDENTITY)).state["m"]
    assert torch.equal(kept["b"], conjugate.conj().resolve_conj()) and torch.equal(kept["a"], conjugate)


def test_equal_states_are_equal_bytes(tmp_path: Path) -> None:
    first, second = (save(tmp_path / name, 1, state_at(1), identity=IDENTITY) for name in "ab")
    assert {f.name: f.read_bytes() for f in first.iterdir()} == {f.name: f.read_bytes() for f in second.iterdir()}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("sound"), 2, state_at(2), identity=IDENTITY)


def damaged_loads(sound: Path, file: Path, content: bytes) -> bool:
    kept = file.read_bytes()
    file.write_bytes(content)
    try:
        load_latest(sound.parent)
    except CheckpointError as error:
        assert file.name in str(error) and "restore" in str(error)
        return False
    finally:
        file.write_bytes(kept)
    return True


def test_a_truncated_file_is_rejected_at_every_offset(sound: Path) -> None:
    for file in sound.iterdir():
        content = file.read_bytes()
        offsets = {len(content) * part // 20 for part in range(20)} if content else set()
        assert not any(damaged_loads(sound, file, content[:offset]) for offset in offsets), file
        assert not damaged_loads(sound, file, content[: len(content) // 2] + bytes(len(content) - len(content) // 2)), (
            file
        )
    assert load_latest(sound.parent) is not None


def test_a_flipped_bit_anywhere_is_rejected(sound: Path) -> None:
    chance = random.Random(0)
    sizes = [(file, file.stat().st_size) for file in sorted(sound.iterdir())]
    for _ in range(200):
        file, size = chance.choices(sizes, weights=[size for _, size in sizes])[0]
        content = bytearray(file.read_bytes())
        content[chance.randrange(size)] ^= 1 << chance.randrange(8)
        assert not damaged_loads(sound, file, bytes(content)), file


def test_a_missing_file_is_rejected_and_an_extra_one_only_warned_of(tmp_path: Path) -> None:
    path = save(tmp_path, 1, state_at(1), identity=IDENTITY)
    (path / "notes.txt").write_text("mine")
    loaded = load_latest(tmp_path)
    assert loaded is not None and "notes.txt" in loaded.warnings[0]
    for name in ("policy.safetensors", "source.json", "MANIFEST.json"):
        kept = (path / name).read_bytes()
        (path / name).unlink()
        with pytest.raises(CheckpointError, match=f"{name} is missing"):
            load_latest(tmp_path)
        (path / name).write_bytes(kept)


def test_a_broken_newest_falls_back_is_reported_and_steps_aside_for_its_successor(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step, state_at(step), identity=IDENTITY, keep=Keep(last=3))
    (tmp_path / "step_3" / "policy.json").unlink()
    loaded = load_latest(tmp_path)
    assert loaded is not None and loaded.step == 2
    assert [(path.name, "policy.json" in reason) for path, reason in loaded.rejected] == [("step_3", True)]
    save(tmp_path, 3, state_at(3), identity=IDENTITY, keep=Keep(last=3))
    assert names(tmp_path) == ["broken_step_3-1", "step_1", "step_2", "step_3"]
    with pytest.raises(CheckpointError, match=r"broken_step_3-1 is not whole \(it says it is step 3"):
        load(tmp_path / "broken_step_3-1")
    again = load_latest(tmp_path)
    assert again is not None and again.step == 3 and not again.rejected


def test_a_good_checkpoint_is_never_overwritten_nor_overtaken(tmp_path: Path) -> None:
    save(tmp_path, 5, state_at(5), identity=IDENTITY)
    for step in (4, 5):
        with pytest.raises(CheckpointError, match="good checkpoint"):
            save(tmp_path, step, state_at(step), identity=IDENTITY)
    assert names(tmp_path) == ["step_5"]


def test_no_checkpoint_is_none_and_foreign_names_are_no_checkpoints(tmp_path: Path) -> None:
    assert load_latest(tmp_path / "absent") is None
    for name in ("step_x", "step_01", "step_1.bak", ".tmp_3_1"):
        (tmp_path / name).mkdir()
    assert load_latest(tmp_path) is None


def test_the_newest_and_the_best_stay(swift: Path) -> None:
    keep = Keep(last=2, best="gold")
    for step, gold in enumerate([0.1, 0.9, 0.3, 0.9, 0.2, 0.4], start=1):
        save(swift, step, state_at(step), identity=IDENTITY, metrics={"gold": gold}, keep=keep)
    assert names(swift) == ["step_2", "step_5", "step_6"]
    assert best_step(swift, keep) == 2
    assert best_step(swift, Keep(best="gold", mode="min")) == 5
    assert best_step(swift, Keep(best="other")) is None
    save(swift, 7, state_at(7), identity=IDENTITY, keep=Keep(last=1))
    assert names(swift) == ["step_7"]


def test_keeping_none_is_refused() -> None:
    with pytest.raises(CheckpointError, match="at least 1"):
        Keep(last=0)
