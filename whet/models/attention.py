"""Attention over a forest: each token sees its own segment causally and the whole of every ancestor segment.

A model's attention is replaced by name: `attend` is registered with `transformers` as "whet" and hands query, key and
value to the plan that travels as a keyword of the model's call, so there is no global state. A `ForestPlan` cuts the
work of one batch into parts that need no copy of a shared prompt:

    own part      every segment with itself, causal; padding to the right of a segment is never seen
    prefix part   every segment that has descendants: their tokens against all of its tokens, without a mask

A token's parts are merged by their log-sum-exp, out = Σ_p exp(lse_p − lse) out_p, which is exactly the softmax over the
union of their keys. Parts of like size share one kernel call; only there is anything padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from whet.batch import TokenBatch
from whet.models.flash import FLASH_DTYPES, Part, flash_forest
from whet.models.softmax import softmax_forest

ATTENTION = "whet"
PADDING = 1.3


class Plan(Protocol):
    """Who computes the attention of a model call: a forest (training, prefill) or slots that grow (sampling)."""

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scaling: float | None,
        window: int | None,
        softcap: float | None,
        sinks: Tensor | None,
    ) -> Tensor:
        """query `[1, heads, T, d]`, key and value `[1, kv_heads, T, d]` → `[1, T, heads, d]`, contiguous."""
        ...


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    plan: Plan | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What `transformers` calls in place of its own attention: everything is left to the plan."""
    if plan is None:
        raise TypeError("its layers do not hand keywords of the call on to their attention")
    assert dropout == 0.0, "attention dropout is off: the forest must give the same numbers twice"
    layer: Any = module.layer_idx
    mixed = plan.attend(
        int(layer), query, key, value, scaling=scaling, window=sliding_window, softcap=softcap, sinks=s_aux
    )
    return mixed, None


def register() -> str:
    """Make "whet" a known attention of `transformers`; no mask is registered, so models build none."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, attend)
    return ATTENTION


@dataclass(slots=True)
class ForestPlan:
    """The parts of one batch, made once and used by every layer.

    `called` collects the layers that asked, `windows` the sliding window each of them named. With `keep` the keys and
    values of every layer stay on the plan as `[T, kv_heads, d]`, which is what prefilling a sampler needs.
    """

    parts: tuple[Part, ...]
    keep: bool = False
    called: set[int] = field(default_factory=set)
    windows: dict[int, int | None] = field(default_factory=dict)
    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: TokenBatch, *, keep: bool = False) -> ForestPlan:
        """The plan of a batch, on the batch's device."""
        return cls(parts=forest_parts(batch), keep=keep)

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scaling: float | None,
        window: int | None,
        softcap: float | None,
        sinks: Tensor | None,
    ) -> Tensor:
        self.called.add(layer)
        self.windows[layer] = window
        q, k, v = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))
        if self.keep:
            self.kept[layer] = (k, v)
        scale = q.shape[-1] ** -0.5 if scaling is None else float(scaling)
        exact = softcap is None and q.dtype in FLASH_DTYPES and q.device.type == "cpu" and q.shape[-1] == v.shape[-1]
        if exact:
            return flash_forest(q, k, v, sinks, parts=self.parts, scale=scale, window=window)[None]
        return softmax_forest(q, k, v, sinks, parts=self.parts, scale=scale, window=window, softcap=softcap)[None]


def forest_parts(batch: TokenBatch) -> tuple[Part, ...]:
    """Own parts first, then prefix parts from the roots down; within a part no token is asked for twice."""
    segment, parent = batch.segment.cpu().numpy(), batch.parent.cpu().numpy()
    assert (np.diff(segment) >= 0).all(), "the tokens of a segment stand together, in order of segments"
    start = np.searchsorted(segment, np.arange(parent.size))
    size = np.bincount(segment, minlength=parent.size)
    position, device = batch.positions.cpu().numpy(), batch.tokens.device
    spans = [np.arange(a, a + n) for a, n in zip(start, size, strict=True)]
    own = [(spans[s], spans[s]) for s in np.flatnonzero(size)]
    parts = [_part(bucket, position, device, own=True) for bucket in _buckets(own)]
    for level in _levels(parent, size):
        prefix = [(np.concatenate([spans[d] for d in below]), spans[s]) for s, below in level]
        parts += [_part(bucket, position, device, own=False) for bucket in _buckets(prefix)]
    return tuple(parts)


def _levels(parent: np.ndarray, size: np.ndarray) -> list[list[tuple[int, list[int]]]]:
    """Per depth, the segments that have descendants, each with them: one depth never asks twice for one token."""
    below: dict[int, list[int]] = {}
    depth = np.zeros(parent.size, dtype=int)
    for s in np.flatnonzero(parent >= 0):
        up = int(parent[s])
        assert up < s, "a parent stands before its children"
        depth[s] = depth[up] + 1
        while up >= 0 and size[s]:
            below.setdefault(up, []).append(int(s))
            up = int(parent[up])
    levels: dict[int, list[tuple[int, list[int]]]] = {}
    for s in sorted(s for s in below if size[s]):
        levels.setdefault(int(depth[s]), []).append((s, below[s]))
    return [levels[d] for d in sorted(levels)]


Spans = tuple[np.ndarray, np.ndarray]


def _buckets(spans: Sequence[Spans]) -> list[list[Spans]]:
    """Spans of like size together: as few kernel calls as keep the padded area within `PADDING` of the real one."""
    out: list[list[Spans]] = []
    queries = keys = area = 0
    for q, k in sorted(spans, key=lambda span: (-span[1].size, -span[0].size)):
        grown = max(queries, q.size), max(keys, k.size)
        count = len(out[-1]) + 1 if out else 1
        small = 1024 * count
        if out and count * grown[0] * grown[1] <= PADDING * (area + q.size * k.size) + small:
            out[-1].append((q, k))
            (queries, keys), area = grown, area + q.size * k.size
        else:
            out.append([(q, k)])
            queries, keys, area = q.size, k.size, q.size * k.size
    return [sorted(bucket, key=lambda span: int(span[1][0])) for bucket in out]


def _part(bucket: Sequence[Spans], position: np.ndarray, device: torch.device, *, own: bool) -> Part:
    query, query_real = _rectangle([q for q, _ in bucket])
    key, key_real = _rectangle([k for _, k in bucket])

    def there(x: np.ndarray) -> Tensor:
        return torch.from_numpy(x).to(device)

    return Part(
        query=there(query),
        key=there(key),
        query_cells=None if query_real.all() else there(np.flatnonzero(query_real)),
        key_cells=None if key_real.all() else there(np.flatnonzero(key_real)),
        query_tokens=there(query[query_real]),
        key_tokens=there(key[key_real]),
        query_real=there(query_real),
        key_real=there(key_real),
        query_position=there(position[query]),
        key_position=there(position[key]),
        reach=int(max(position[q].max() - position[k].min() for q, k in bucket)),
        own=own,
    )


def _rectangle(spans: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Spans → `[B, longest]` token indices, padded with each span's last, and which of them are real."""
    size = np.array([span.size for span in spans])
    real = np.arange(size.max())[None, :] < size[:, None]
    index = np.repeat(np.array([span[-1] for span in spans])[:, None], size.max(), axis=1)
    index[real] = np.concatenate(spans)
    return index, real
