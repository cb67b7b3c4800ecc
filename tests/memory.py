"""What a piece of work keeps for its backward, and the most it allocates: counts of bytes, the same every time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile


class Saved:
    """Bytes of tensors that graphs hold: now, and at most; what shares memory counts once, parameters not at all."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.holders: dict[int, int] = {}


class _Held:
    """A saved tensor, until its graph is gone."""

    def __init__(self, tensor: Tensor, meter: Saved) -> None:
        self.tensor, self.meter = tensor, meter
        self.place, self.size = tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()
        held = meter.holders.get(self.place, 0)
        meter.holders[self.place] = held + 1
        meter.now += 0 if held else self.size
        meter.most = max(meter.most, meter.now)

    def __del__(self) -> None:
        self.meter.holders[self.place] -= 1
        self.meter.now -= 0 if self.meter.holders[self.place] else self.size


@contextmanager
def saved_bytes() -> Iterator[Saved]:
    """A meter of what forwards inside the block save."""
    meter = Saved()

    def keep(x: Tensor) -> Tensor | _Held:
        return x if isinstance(x, torch.nn.Parameter) or (x._base is not None and x._base.is_leaf) else _Held(x, meter)

    def give(x: Tensor | _Held) -> Tensor:
        return x.tensor if isinstance(x, _Held) else x

    with torch.autograd.graph.saved_tensors_hooks(keep, give):
        yield meter


def most_allocated(work: Callable[[], object]) -> int:
    """The most bytes that the work held at once beyond those it found, from the allocator's own log."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    assert seen.profiler is not None
    now = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most
