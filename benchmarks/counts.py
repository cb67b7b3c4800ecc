"""What a piece of work costs in numbers that do not depend on the machine: tokens, operations, bytes kept for backward.

Attention is counted apart from everything that is linear in the tokens. Its operations are those of the rectangles of
queries and keys that the kernels are given; a causal kernel skips up to half of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

LINEAR = ("mm", "addmm", "_linear_pointwise")
"""Operators of linear layers and heads, forward and backward; every other counted operator is attention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Tokens fed to the embedding, operations of linear layers and of attention, most bytes kept for backward."""

    tokens: int
    linear: int
    attention: int
    saved: int

    @property
    def operations(self) -> int:
        return self.linear + self.attention


def counted(work: Callable[[], Any], model: nn.Module, embedding: nn.Module) -> Counts:
    """Do the work once and count what goes through `model`, whose tokens enter by `embedding`."""
    fed = Fed()
    handle = embedding.register_forward_pre_hook(fed)
    kept = Kept(model.parameters())
    counter = FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION)
    try:
        with counter, kept.watching():
            work()
    finally:
        handle.remove()
    by = {str(op).rpartition(".")[2]: count for op, count in counter.get_flop_counts().get("Global", {}).items()}
    linear = sum(count for name, count in by.items() if name in LINEAR)
    return Counts(tokens=fed.tokens, linear=linear, attention=sum(by.values()) - linear, saved=kept.peak)


class Fed:
    """A hook that adds up the tokens handed to an embedding."""

    def __init__(self) -> None:
        self.tokens = 0

    def __call__(self, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        self.tokens += given[0].numel()


class Kept:
    """Bytes that autograd keeps for backward, each storage once, parameters left out; `peak` is the most at a time."""

    def __init__(self, parameters: Any) -> None:
        self._own = {parameter.untyped_storage().data_ptr() for parameter in parameters}
        self._held: dict[int, int] = {}
        self._live = self.peak = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count what is saved inside the block."""
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: _Held(self, tensor), lambda held: held.tensor):
            yield

    def take(self, storage: int, size: int) -> None:
        """One more tensor of this storage is kept."""
        if storage in self._own:
            return
        self._held[storage] = self._held.get(storage, 0) + 1
        if self._held[storage] == 1:
            self._live += size
            self.peak = max(self.peak, self._live)

    def drop(self, storage: int, size: int) -> None:
        """One less."""
        if storage in self._own:
            return
        self._held[storage] -= 1
        if not self._held[storage]:
            del self._held[storage]
            self._live -= size


class _Held:
    """A saved tensor for as long as the graph keeps it."""

    def __init__(self, kept: Kept, tensor: Tensor) -> None:
        self.tensor, self._kept = tensor, kept
        storage = tensor.untyped_storage()
        self._place = storage.data_ptr(), storage.nbytes()
        kept.take(*self._place)

    def __del__(self) -> None:
        self._kept.drop(*self._place)


def _forward(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    return sdpa_flop_count(_heads(query, query), _heads(key, query), _heads(value, query))


def _backward(
    grad: Sequence[int], query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any
) -> int:
    shapes = (_heads(shape, query) for shape in (grad, query, key, value))
    return sdpa_backward_flop_count(*shapes)


def _heads(shape: Sequence[int], query: Sequence[int]) -> tuple[int, ...]:
    """A key head that several query heads share works once for each of them."""
    return (shape[0], query[1], *shape[2:])


CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _forward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
}
"""Torch's counter knows the kernels of GPUs alone."""
