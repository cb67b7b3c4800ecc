from __future__ import annotations

import errno
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import crashes
import pytest
import torch
from states import IDENTITY, same, state_at
from torch import nn

from whet.errors import CheckpointError, RunError
from whet.files import recover_folder, sweep, write_folder_atomically
from whet.plain import json_hash, to_json
from whet.train.checkpoint import Identity, Keep, best_step, load, load_latest, restore, save, state_of
from whet.train.receive import load_optimizer, load_tensors


@pytest.fixture
def swift() -> Iterator[Path]:
    with crashes.swift_folder() as place:
        yield place


@pytest.fixture(scope="module")
def outcomes() -> dict[str, list[dict[str, Any]]]:
    with crashes.swift_folder() as place:
        return crashes.run_campaigns(place, "checkpoint", "limited")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --------------------------------------------------------------------------------------------------------- round trips


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


def trained(seed: int, steps: int, **options: Any) -> tuple[nn.Module, torch.optim.AdamW]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.ndim > 1]},
            {"params": [p for p in model.parameters() if p.ndim < 2]},
        ],
        lr=0.01,
        **options,
    )
    train(model, optimizer, steps)
    return model, optimizer


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(3, 4)).square().sum().backward()
        optimizer.step()


def test_adamw_goes_on_with_the_same_bits_after_a_checkpoint(tmp_path: Path) -> None:
    model, optimizer = trained(0, 3, amsgrad=True)
    save(tmp_path, 3, {"model": model.state_dict(), "optim": optimizer.state_dict()}, identity=IDENTITY)
    train(model, optimizer, 2)
    other, receiver = trained(1, 0, amsgrad=True)
    loaded = load_latest(tmp_path)
    assert loaded is not None
    load_tensors(other.state_dict(), loaded.state["model"], what="the model")
    load_optimizer(receiver, loaded.state["optim"])
    assert isinstance(receiver.param_groups[0]["betas"], tuple)
    train(other, receiver, 2)
    assert same(dict(model.state_dict()), dict(other.state_dict()))
    assert same(optimizer.state_dict(), receiver.state_dict())


# ---------------------------------------------------------------------------------------------------- what does not fit


def spoiled(state: dict[str, Any], change: str) -> dict[str, Any]:
    moments, groups = {k: dict(v) for k, v in state["state"].items()}, [dict(g) for g in state["param_groups"]]
    if change == "a moment is gone":
        del moments[1]["exp_avg_sq"]
    elif change == "an option is gone":
        del groups[0]["weight_decay"]
    elif change == "a group is gone":
        groups.pop()
    elif change == "another order":
        groups[0]["params"], groups[1]["params"] = groups[1]["params"], groups[0]["params"]
    elif change == "another shape":
        moments[0]["exp_avg"] = moments[0]["exp_avg"].t()
    elif change == "another type":
        moments[0]["exp_avg"] = moments[0]["exp_avg"].double()
    elif change == "a parameter too many":
        moments[9] = moments[0]
    elif change == "no state":
        return {"param_groups": groups}
    return {"state": moments, "param_groups": groups}


@pytest.mark.parametrize(
    "change",
    [
        "a moment is gone",
        "an option is gone",
        "a group is gone",
        "another order",
        "another shape",
        "another type",
        "a parameter too many",
        "no state",
    ],
)
def test_an_optimizer_state_that_does_not_fit_is_refused(change: str) -> None:
    _, optimizer = trained(0, 1)
    before = repr(optimizer.state_dict())
    load_optimizer(optimizer, spoiled(optimizer.state_dict(), "nothing"))
    with pytest.raises(CheckpointError):
        load_optimizer(optimizer, spoiled(optimizer.state_dict(), change))
    assert repr(optimizer.state_dict()) == before


def test_an_optimizer_with_other_parameter_names_is_refused() -> None:
    first = torch.optim.AdamW([("a", nn.Parameter(torch.ones(2))), ("b", nn.Parameter(torch.ones(2)))])
    second = torch.optim.AdamW([("b", nn.Parameter(torch.ones(2))), ("a", nn.Parameter(torch.ones(2)))])
    with pytest.raises(CheckpointError, match="other parameters"):
        load_optimizer(second, first.state_dict())


def test_tensors_of_other_names_shapes_or_types_change_nothing() -> None:
    own = {"a": torch.zeros(2), "b": torch.zeros(3)}
    for state in (
        {"a": torch.ones(2)},
        {"a": torch.ones(2), "b": torch.ones(3), "c": torch.ones(1)},
        {"a": torch.ones(2), "b": torch.ones(4)},
        {"a": torch.ones(2), "b": torch.ones(3, dtype=torch.bfloat16)},
    ):
        with pytest.raises(CheckpointError, match="does not fit"):
            load_tensors(own, state, what="the model")
    assert not own["a"].any()


class Part:
    def __init__(self, value: int) -> None:
        self.value = value

    def state(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state(self, state: Any) -> None:
        self.value = state["value"]


def test_parts_get_their_states_and_a_missing_or_new_part_is_refused_untouched(tmp_path: Path) -> None:
    save(tmp_path, 1, state_of({"pool": Part(3), "controller": Part(4)}), identity=IDENTITY)
    loaded = load_latest(tmp_path)
    assert loaded is not None
    pool, controller = Part(0), Part(0)
    with pytest.raises(CheckpointError, match=r"missing \['ema'\], not known here \['controller'\]"):
        restore(loaded, {"pool": pool, "ema": Part(0)})
    assert pool.value == 0
    restore(loaded, {"pool": pool, "controller": controller})
    assert (pool.value, controller.value) == (3, 4)


@pytest.mark.parametrize(
    "value", [{1, 2}, b"bytes", object(), torch.zeros(2).to_sparse(), torch.zeros(2, device="meta")]
)
def test_a_state_that_cannot_be_kept_is_refused_by_its_place_before_anything_is_written(
    tmp_path: Path, value: Any
) -> None:
    with pytest.raises(CheckpointError, match=r"'pool' holds .* at deep\.1"):
        save(tmp_path / "new", 1, {"pool": {"deep": [0, value]}}, identity=IDENTITY)
    assert not (tmp_path / "new").exists()


def test_a_component_whose_name_is_no_file_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="file's name"):
        save(tmp_path, 1, {"../pool": {}}, identity=IDENTITY)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            Identity(config={**IDENTITY.config, "seed": 8}, tokenizer_hash="ab" * 32, data_fingerprint="cd" * 32),
            r"config\.seed: 7 → 8",
        ),
        (Identity(config=IDENTITY.config, tokenizer_hash="ef" * 32, data_fingerprint="cd" * 32), "tokenizer: abab"),
        (Identity(config=IDENTITY.config, tokenizer_hash="ab" * 32, data_fingerprint="ef" * 32), "data: cdcd"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_the_difference(tmp_path: Path, other: Identity, said: str) -> None:
    save(tmp_path, 1, state_at(1), identity=IDENTITY)
    with pytest.raises(CheckpointError, match=said):
        load_latest(tmp_path, identity=other)


def test_a_checkpoint_of_another_format_or_another_step_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, 1, state_at(1), identity=IDENTITY)
    os.rename(path, tmp_path / "step_9")
    with pytest.raises(CheckpointError, match="says it is step 1"):
        load_latest(tmp_path)
    os.rename(tmp_path / "step_9", path)
    manifest = path / "MANIFEST.json"
    for before, after in [('"format": 1', '"format": 2'), ("1e-06", "1E-06")]:
        kept = manifest.read_text()
        assert before in kept
        manifest.write_text(kept.replace(before, after))
        with pytest.raises(CheckpointError, match="changed after"):
            load_latest(tmp_path)
        manifest.write_text(kept)
    about = {**json.loads(manifest.read_text()), "format": 2}
    about["sha256"] = json_hash({key: value for key, value in about.items() if key != "sha256"})
    manifest.write_text(to_json(about) + "\n")
    with pytest.raises(CheckpointError, match="has format 2 and this version reads format 1"):
        load_latest(tmp_path)


def test_checkpoints_of_every_format_so_far_still_load() -> None:
    loaded = load_latest(Path(__file__).parent / "golden" / "checkpoints_1", identity=IDENTITY)
    assert loaded is not None and loaded.step == 2 and same(loaded.state, state_at(2))


# ------------------------------------------------------------------------------------------------------------- damage


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


# ---------------------------------------------------------------------------------------------------------------- keep


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


# ------------------------------------------------------------------------------------------------------ failing storage


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


# -------------------------------------------------------------------------------------------------------------- crashes


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


# -------------------------------------------------------------------------------------------------------- model folders


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "final"

    def half(folder: Path) -> None:
        (folder / "a").write_text("1")
        raise ValueError("the writer failed")

    with pytest.raises(ValueError, match="the writer failed"):
        write_folder_atomically(target, half)
    assert names(tmp_path) == []
    write_folder_atomically(target, lambda folder: (folder / "sub").mkdir())
    with pytest.raises(RunError, match="already there"):
        write_folder_atomically(target, half)
    with pytest.raises(ValueError, match="the writer failed"):
        write_folder_atomically(target, half, replace=True)
    assert names(tmp_path) == ["final"] and names(target) == ["sub"]
    write_folder_atomically(target, lambda folder: (folder / "b").write_text("2"), replace=True)
    assert names(tmp_path) == ["final"] and names(target) == ["b"]


def test_an_exchange_that_fails_anywhere_leaves_the_old_or_the_new_folder(swift: Path) -> None:
    for n in range(1, 40):
        target = swift / str(n) / "final"
        write_folder_atomically(target, lambda folder: (folder / "old").write_text("1"))
        files = crashes.failing_at(n, errno.EIO)
        try:
            write_folder_atomically(target, lambda folder: (folder / "new").write_text("2"), replace=True, files=files)
        except RunError:
            recover_folder(target)
            assert names(target) in (["old"], ["new"])
            assert names(target.parent) == ["final"]
        else:
            assert names(target) == ["new"] and n > 8
            return
    pytest.fail("the exchange never came to its end")
