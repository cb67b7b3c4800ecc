"""Small states of everything a checkpoint must carry, for the tests of saving."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from whet.train.checkpoint import Identity

IDENTITY = Identity(config={"optim": {"lr": 1e-06}, "seed": 7}, tokenizer_hash="ab" * 32, data_fingerprint="cd" * 32)


def state_at(step: int) -> dict[str, dict[str, Any]]:
    """A state in which every kind of value differs from step to step."""
    weight = (
        torch.arange(12.0).reshape(3, 4) / 7 + step
    )  # exact on every machine: a stored checkpoint is compared with it
    policy = {
        "weight": weight,
        "tied": weight,
        "half": (torch.arange(5.0) / 3 - step).to(torch.bfloat16),
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(step, dtype=torch.int64),
        "turned": (torch.arange(12.0).reshape(4, 3) / 11 * step).t(),
        "mask": torch.tensor([True, False]),
    }
    source = {"cursor": step, "seen": {3: "three", "3": None}, "best": float("-inf"), "pair": (step, [0.1 + step])}
    return {"policy": policy, "source": source, "nothing": {}}


def same(left: Any, right: Any) -> bool:
    """Equal in type, order, shape and every bit."""
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return left.dtype == right.dtype and left.shape == right.shape and bits(left) == bits(right)
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and repr(left) == repr(right)


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def names(folder: Path) -> list[str]:
    """What a folder holds."""
    return sorted(path.name for path in folder.iterdir())
