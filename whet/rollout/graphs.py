"""Decode steps recorded once and replayed: on a GPU a small model's step costs more to launch than to compute.

A recording fixes shapes and addresses, so steps are padded to a few sizes, each recorded when it first comes, and read
and write tensors that stay where they are: the state of the rows, and slots for keys and values.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Capture = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
"""Records a computation on tensors that stay; what it returns replays it and gives the same output tensor."""

COLUMNS = 256
"""Keys are read in multiples of this many, or of an eighth of a slot where that is more."""


class Graphs:
    """The recordings of one call of the engine, by (rows, columns)."""

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.recorded: dict[tuple[int, int], Callable[[], Tensor]] = {}

    def run(self, rows: int, columns: int, compute: Callable[[], Tensor]) -> Tensor:
        """What `compute` gives for these sizes: recorded the first time, replayed from then on."""
        replay = self.recorded.get((rows, columns))
        if replay is None:
            replay = self.recorded[rows, columns] = self.capture(compute)
        return replay()


def padded_sizes(rows: int, columns: int, *, slots: int, room: int) -> tuple[int, int]:
    """The sizes a step is padded to: rows to a power of two, columns to a multiple, at most what there is.

    >>> padded_sizes(33, 300, slots=48, room=1000), padded_sizes(5, 20, slots=48, room=4096)
    ((48, 512), (8, 512))
    """
    step = max(COLUMNS, -(-room // 8))
    return min(slots, 1 << (rows - 1).bit_length()), min(room, -(-columns // step) * step)


def cuda_capture() -> Capture:
    """Recordings as CUDA graphs that share one pool of memory; a model that waits for the GPU cannot be recorded."""
    pool = torch.cuda.graph_pool_handle()

    def capture(compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        # a first run outside the recording, on a stream of its own: libraries set themselves up in it
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            compute()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            out = compute()

        def replay() -> Tensor:
            graph.replay()
            return out

        return replay

    return capture
