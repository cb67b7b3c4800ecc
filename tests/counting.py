"""What a step of the benchmarks' Whet side computes: operations by kind, tokens and forward calls, never time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.llama.modeling_llama import LlamaModel

from benchmarks import material, whet_side
from benchmarks.workloads import Workload

FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
FLASH_BACK = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
ATTENTION = (FLASH, FLASH_BACK)
Shape = Sequence[int]


@dataclass(slots=True)
class Counts:
    """One step: operations of attention kernels and of all other products, and each forward's tokens."""

    attention: int = 0
    products: int = 0
    grad: list[int] = field(default_factory=list[int])
    plain: list[int] = field(default_factory=list[int])
    told: dict[str, Any] = field(default_factory=dict[str, Any])


class Counter:
    """A clock that stops after `steps` steps and counts the last of them."""

    def __init__(self, steps: int) -> None:
        self.left, self.counts = steps, Counts()
        self._mode: FlopCounterMode | None = None

    def ready(self, settings: dict[str, Any]) -> None:
        """Nobody listens."""

    def start(self) -> None:
        if not self.left:
            raise StopIteration
        self.counts = Counts()
        self._mode = FlopCounterMode(display=False, custom_mapping=_KNOWN)
        self._mode.__enter__()

    def stop(self) -> None:
        assert self._mode is not None
        self._mode.__exit__(None, None, None)
        found = self._mode.get_flop_counts()["Global"]
        self.counts.attention = sum(found.pop(kernel, 0) for kernel in ATTENTION)
        self.counts.products = sum(found.values())
        self.left -= 1

    def tell(self, **counts: Any) -> None:
        self.counts.told = counts

    def called(self, tokens: int) -> None:
        (self.counts.grad if torch.is_grad_enabled() else self.counts.plain).append(tokens)


def counted(workload: Workload, folder: Path, monkeypatch: pytest.MonkeyPatch, *, steps: int = 2) -> Counts:
    """The counts of the last of `steps` steps."""
    counter, forward = Counter(steps), LlamaModel.forward

    def watched(self: Any, input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        counter.called(input_ids.numel())
        return forward(self, input_ids, *args, **kwargs)

    monkeypatch.setattr(LlamaModel, "forward", watched)
    monkeypatch.setattr(whet_side, "machine", lambda shape: {})
    material.make(workload, folder)
    with pytest.raises((StopIteration, RuntimeError)):
        whet_side.work(workload, folder, counter, {})  # type: ignore[arg-type]
    assert not counter.left
    return counter.counts


def _flash(query: Shape, key: Shape, value: Shape, *rest: Any, out_val: Any = None, **kwargs: Any) -> int:
    """4 · pairs · d of every head; a causal kernel leaves out the pairs above the diagonal."""
    pairs = query[-2] * key[-2]
    if (len(rest) > 1 and rest[1]) or kwargs.get("is_causal"):
        assert query[-2] == key[-2]
        pairs = query[-2] * (query[-2] + 1) // 2
    return 4 * pairs * query[-1] * math.prod(query[:-2])


def _flash_back(
    grad: Shape, query: Shape, key: Shape, value: Shape, out: Any, lse: Any, *rest: Any, **kwargs: Any
) -> int:
    """Twice the forward: what the kernel computes again is its own affair."""
    return 2 * _flash(query, key, value, *rest, **kwargs)


def _addmm(total: Shape, left: Shape, right: Shape, *rest: Any, **kwargs: Any) -> int:
    return 2 * left[0] * left[1] * right[1]


_KNOWN = {FLASH: _flash, FLASH_BACK: _flash_back, torch.ops.aten.addmm_: _addmm}
