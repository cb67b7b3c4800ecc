"""The fallback layout: every response with its own copy of its prompt, padded to the right, through the stock model.

It serves models whose attention cannot be replaced or whose layers carry state along the sequence. What comes back has
the forest's shape, so nobody above sees a difference but the cost: K responses compute their prompt K times.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from whet.batch import TokenBatch
from whet.transfer import ship

WASTE = 1.3


def padded_hidden(backbone: nn.Module, batch: TokenBatch, *, device: torch.device) -> Tensor:
    """Last hidden states `[T, h]`; a shared prompt's states come from one of the responses that hold it.

    `device` is the backbone's; a batch on the CPU is laid out there and goes over in one copy.
    """
    paths = _paths(batch)
    where = np.full(batch.tokens.numel(), -1)
    tokens = batch.tokens.cpu()
    inputs: list[Tensor] = []
    offset = 0
    for bucket in _buckets(paths):
        index = _right_padded(bucket)
        cells = offset + np.arange(index.size).reshape(index.shape)
        for path, cell in zip(bucket, cells, strict=True):
            where[path] = cell[: path.size]
        inputs.append(tokens[torch.from_numpy(index)])
        offset += index.size
    assert (where >= 0).all(), "every token belongs to a response"
    *inputs, place = ship([*inputs, torch.from_numpy(where)], device)
    # no mask: a causal model's states do not know what stands to their right, and without one attention is faster
    states = [backbone(input_ids=ids, use_cache=False).last_hidden_state.flatten(0, 1) for ids in inputs]
    return torch.cat(states).index_select(0, place)


def _paths(batch: TokenBatch) -> list[np.ndarray]:
    """Token indices from the root to each segment without children."""
    segment, parent = batch.segment.cpu().numpy(), batch.parent.cpu().tolist()
    start = np.searchsorted(segment, np.arange(len(parent) + 1))
    spans = [np.arange(a, b) for a, b in pairwise(start.tolist())]
    inner = set(parent)
    paths = []
    for leaf in (s for s in range(len(parent)) if s not in inner):
        chain, up = [spans[leaf]], parent[leaf]
        while up >= 0:
            chain.append(spans[up])
            up = parent[up]
        paths.append(np.concatenate(chain[::-1]))
    return [path for path in paths if path.size]


def _buckets(paths: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """Paths of like length together, longest first."""
    out: list[list[np.ndarray]] = []
    real = 0
    for path in sorted(paths, key=lambda p: -p.size):
        if out and (len(out[-1]) + 1) * out[-1][0].size <= WASTE * (real + path.size):
            out[-1].append(path)
            real += path.size
        else:
            out.append([path])
            real = path.size
    return out


def _right_padded(paths: Sequence[np.ndarray]) -> np.ndarray:
    """`[B, longest]` token indices, padded with each path's last token."""
    longest = max(path.size for path in paths)
    return np.stack([np.pad(path, (0, longest - path.size), mode="edge") for path in paths])
