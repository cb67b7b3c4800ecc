"""Many small tensors to a device in one copy, which nobody waits for.

A batch and its plan are some forty index tensors. One at a time each costs a launch and, from ordinary memory, a wait;
here they are laid side by side in page-locked memory, copied once, and cut apart again on the other side.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

ALIGNMENT = 16
"""Bytes: every tensor begins at a multiple of it, so that any type may be read there."""


def ship(tensors: Sequence[Tensor], device: torch.device | str) -> list[Tensor]:
    """The same tensors on `device`: views of one buffer that one asynchronous copy filled.

    Tensors that are there already come back as they are, and between devices other than the CPU each is moved alone.
    What is shipped has no gradient.

    >>> [x.tolist() for x in ship([torch.tensor([1, 2]), torch.tensor([[True], [False]])], "cpu")]
    [[1, 2], [[True], [False]]]
    """
    device = torch.device(device)
    here = [i for i, tensor in enumerate(tensors) if tensor.device.type == "cpu"]
    out = [tensor.to(device) if tensor.device.type != "cpu" else tensor for tensor in tensors]
    if device.type == "cpu" or not here:
        return out
    for i, arrived in zip(here, _over([tensors[i] for i in here], device), strict=True):
        out[i] = arrived
    return out


def _over(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    starts, end = [], 0
    for tensor in tensors:
        starts.append(end)
        end += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
    buffer = torch.empty(end, dtype=torch.uint8, pin_memory=device.type == "cuda" and torch.cuda.is_available())
    for tensor, start in zip(tensors, starts, strict=True):
        _at(buffer, start, tensor).copy_(tensor.detach())
    there = buffer.to(device, non_blocking=True)
    return [_at(there, start, tensor) for tensor, start in zip(tensors, starts, strict=True)]


def _at(buffer: Tensor, start: int, tensor: Tensor) -> Tensor:
    """The bytes from `start` on as a tensor of that one's type and shape."""
    return buffer[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
