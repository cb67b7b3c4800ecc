"""A checkpoint goes back only where it fits: names, shapes, types, the same run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from states import IDENTITY, same, state_at
from torch import nn

from whet.errors import CheckpointError
from whet.plain import json_hash, to_json
from whet.train.checkpoint import Identity, load_latest, restore, save, state_of
from whet.train.receive import load_optimizer, load_tensors


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
