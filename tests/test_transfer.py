"""Tensors go to a device together, unchanged and in one copy."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from whet import transfer
from whet.batch import Tree, pack
from whet.models.attention import ForestPlan
from whet.transfer import ship
from whet.types import Rollout


class Copies(TorchDispatchMode):
    """Counts what goes from the CPU to another device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        moved = isinstance(out, torch.Tensor) and func._schema.name == "aten::_to_copy"
        self.count += moved and out.device != args[0].device
        return out


def batch():
    def rollout(*tokens):
        kinds = ("prompt",) * 2 + ("sampled",) * (len(tokens) - 2)
        return Rollout(task_id="t", tokens=tokens, mask=tuple(k == "sampled" for k in kinds), source=kinds)

    trees = [Tree(rollouts=[rollout(1, 2, 3), rollout(1, 2, 4, 5)], response={"reward": [1.0, 0.0]})]
    return pack([*trees, Tree(rollouts=[rollout(6, 7, *range(40))], response={"reward": [2.0]})])


TENSORS = [
    torch.tensor([1, 2, 3]),
    torch.tensor(True),
    torch.zeros(0, dtype=torch.float64),
    torch.tensor([[1.5], [2.5]], dtype=torch.bfloat16),
    torch.tensor([7], dtype=torch.int32),
    torch.arange(6.0).view(2, 3).t(),
    torch.arange(2).as_strided((1,), (0,)),
    torch.tensor([3]).expand(4),
    torch.zeros(2, 0),
]
"""Also of one number with a stride of 0, which `view` does not take for contiguous bytes though it is."""


def test_what_arrives_is_what_left(monkeypatch):
    there = transfer._over(TENSORS, torch.device("cpu"))
    assert len({tensor.untyped_storage().data_ptr() for tensor in there}) == 1
    for a, b in zip(TENSORS, there, strict=True):
        assert torch.equal(a, b) and a.dtype == b.dtype and b.is_contiguous()


def test_tensors_that_are_there_stay_as_they_are():
    assert all(a is b for a, b in zip(TENSORS, ship(TENSORS, "cpu"), strict=True))
    there = TENSORS[0].to("meta")
    mixed = ship([there, TENSORS[1]], "meta")
    assert mixed[0] is there and mixed[1].device.type == "meta" and mixed[1].dtype == torch.bool


@pytest.mark.parametrize("make", [lambda b: b.to("meta"), lambda b: plan(b).parts, lambda b: plan(b).runs])
def test_a_batch_and_its_plan_take_one_copy_each(make):
    given = batch()
    with Copies() as copies:
        make(given)
    assert copies.count == 1


def plan(given):
    return ForestPlan.of(given, device=torch.device("meta"))


def test_columns_go_along():
    moved = batch().to("meta")
    assert moved.response["reward"].device.type == moved.label["label"].device.type == "meta"
    assert moved.tokens.shape == batch().tokens.shape and moved.rows == 3
