"""How a forest's attention is cut: rectangles of padded segments for the CPU's kernel, runs without padding for CUDA's.

    own part      every segment with itself, causal
    prefix part   per depth, every segment that has descendants: their tokens against all of its tokens, without a mask
    tree part     a tree of short segments as a whole, with a mask: one rectangle costs less than a call for each piece

Index tensors are made in numpy and go to the device in one copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from whet.batch import TokenBatch
from whet.transfer import ship

PADDING = 1.3
CALL = 1024
"""Query-key pairs that a kernel computes in the time that one more sequence costs it anyway."""
FAR = 1e30
"""A finite stand-in for infinity: exp(−FAR) is 0 and FAR − FAR is 0, where infinities would give NaN."""

Spans = tuple[np.ndarray, np.ndarray]
"""Tokens that ask and tokens that are asked, each in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Spans of like size in one kernel call: queries `[B, Q]` and keys `[B, K]` as token indices, padded to the right.

    `query_cells` and `key_cells` are the real cells of those rectangles, flattened (None: all of them), and
    `query_tokens`, `key_tokens` the tokens there. `own` parts are causal by index; `reach` is the largest distance
    from a query back to a key. `tree` `[B, Q, K]` says what each query sees where spans are whole trees.
    """

    query: Tensor
    key: Tensor
    query_cells: Tensor | None
    key_cells: Tensor | None
    query_tokens: Tensor
    key_tokens: Tensor
    query_real: Tensor
    key_real: Tensor
    query_position: Tensor
    key_position: Tensor
    reach: int
    own: bool
    tree: Tensor | None = None
    masks: dict[tuple[int | None, torch.dtype], Tensor | None] = field(default_factory=dict)

    def mask(self, window: int | None, dtype: torch.dtype) -> Tensor | None:
        """What must be added to the scores, `[B or 1, 1, Q or 1, K]`; None where causality alone says it."""
        if window is not None and window > self.reach:
            window = None
        if (window, dtype) not in self.masks:
            self.masks[window, dtype] = self._mask(window, dtype)
        return self.masks[window, dtype]

    def _mask(self, window: int | None, dtype: torch.dtype) -> Tensor | None:
        if self.tree is not None:
            return far(~self._near(self.tree, window)[:, None], dtype)
        if self.own:
            if window is None:
                return None
            length = torch.arange(self.key.shape[1], device=self.key.device)
            back = length[:, None] - length[None, :]
            return far(((back < 0) | (back >= window))[None, None], dtype)
        seen = None if self.key_cells is None else self.key_real[:, None, None, :]
        if window is not None:
            near = self._near(torch.ones((), dtype=torch.bool, device=self.key.device), window)[:, None]
            seen = near if seen is None else near & seen
        return None if seen is None else far(~seen, dtype)

    def _near(self, seen: Tensor, window: int | None) -> Tensor:
        """What of `seen` is inside the window."""
        if window is None:
            return seen
        return seen & (self.query_position[:, :, None] - self.key_position[:, None, :] < window)


def far(unseen: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask to add to scores: 0 where something is seen, else so far below that it has no share; finite, since a part
    may hide everything from a token."""
    below = max(-FAR, torch.finfo(dtype).min / 2)
    return torch.zeros(unseen.shape, dtype=dtype, device=unseen.device).masked_fill_(unseen, below)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Spans of any size in one kernel call, end to end: sequence `i` of the queries is `[query_starts[i], [i + 1])`.

    `query_tokens` and `key_tokens` say which tokens stand there, None for all tokens in the batch's own order (the own
    part: segments already stand end to end). Starts are int32, as the kernel wants them. `reach` is the largest
    distance from a query back to a key, `own` parts are causal.
    """

    query_tokens: Tensor | None
    key_tokens: Tensor | None
    query_starts: Tensor
    key_starts: Tensor
    longest_query: int
    longest_key: int
    reach: int
    own: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A batch's spans: `own` of every segment that has tokens, `prefixes` per depth from the roots down.

    `position` and `segment` are those of its tokens, `parent` that of its segments.
    """

    own: list[Spans]
    prefixes: list[list[Spans]]
    position: np.ndarray
    segment: np.ndarray
    parent: np.ndarray

    @classmethod
    def of(cls, batch: TokenBatch) -> Cut:
        """The spans of a batch; one that stands on a GPU is waited for, so cut it before it goes there."""
        segment, parent = batch.segment.cpu().numpy(), batch.parent.cpu().numpy()
        assert (np.diff(segment) >= 0).all(), "the tokens of a segment stand together, in order of segments"
        start = np.searchsorted(segment, np.arange(parent.size))
        size = np.bincount(segment, minlength=parent.size)
        spans = [np.arange(a, a + n) for a, n in zip(start, size, strict=True)]
        prefixes = [
            [(np.concatenate([spans[d] for d in below]), spans[s]) for s, below in level]
            for level in _levels(parent, size)
        ]
        own = [(spans[s], spans[s]) for s in np.flatnonzero(size)]
        position = batch.positions.cpu().numpy()
        return cls(own=own, prefixes=prefixes, position=position, segment=segment, parent=parent)

    def parts(self, device: torch.device, *, whole: bool = True) -> tuple[Part, ...]:
        """Rectangles: own ones first, then prefixes from the roots down; within one no token is asked for twice.

        With `whole`, trees that cost less that way are one rectangle each, and stand before all others.
        """
        root = self._roots()
        chosen = self._cheap(root) if whole else np.zeros(self.parent.size, dtype=bool)
        inside = chosen[root][self.segment]
        made = [_Rectangles.of(bucket, self, own=True, tree=True) for bucket in _buckets(_trees(inside, root, self))]
        for own, spans in ((True, self.own), *((False, level) for level in self.prefixes)):
            rest = [span for span in spans if not inside[span[1][0]]]
            made += [_Rectangles.of(bucket, self, own=own) for bucket in _buckets(rest)]
        there = iter(ship([torch.from_numpy(array) for one in made for array in one.arrays()], device))
        return tuple(one.part(there) for one in made)

    def _roots(self) -> np.ndarray:
        """The root of every segment `[S]`; a parent stands before its children."""
        root = np.arange(self.parent.size)
        for s in np.flatnonzero(self.parent >= 0):
            root[s] = root[self.parent[s]]
        return root

    def _cheap(self, root: np.ndarray) -> np.ndarray:
        """Which roots `[S]` have several segments whose rectangles and calls cost more than one over the whole tree."""
        apart, count = np.zeros(root.size), np.zeros(root.size, dtype=int)
        for spans in (self.own, *self.prefixes):
            for q, k in spans:
                apart[root[self.segment[k[0]]]] += q.size * k.size + CALL
                count[root[self.segment[k[0]]]] += 1
        size = np.bincount(root[self.segment], minlength=root.size)
        return (count > 1) & (size**2 + CALL <= apart)

    def seen(self, index: np.ndarray, real: np.ndarray) -> np.ndarray:
        """Which tokens of `[B, L]` each of them sees, `[B, L, L]`: its segment's and its ancestors', up to itself."""
        segment, place = self.segment[index], np.arange(index.shape[1])
        out, up = np.zeros((*index.shape, index.shape[1]), dtype=bool), segment
        while (up >= 0).any():
            out |= up[:, :, None] == segment[:, None, :]
            up = np.where(up >= 0, self.parent[up], -1)
        return out & (place[:, None] >= place[None, :]) & real[:, None, :]

    def runs(self, device: torch.device) -> tuple[Run, ...]:
        """Runs: the own one, then one per depth."""
        spans = [self.own, *self.prefixes]
        arrays = [array for one in spans for array in _ends(one)]
        arrays += [np.concatenate([span[side] for span in one]) for one in self.prefixes for side in (0, 1)]
        there = ship([torch.from_numpy(array) for array in arrays], device)
        starts, tokens = there[: 2 * len(spans)], [None, None, *there[2 * len(spans) :]]
        return tuple(
            Run(
                query_tokens=tokens[2 * i],
                key_tokens=tokens[2 * i + 1],
                query_starts=starts[2 * i],
                key_starts=starts[2 * i + 1],
                longest_query=max(q.size for q, _ in one),
                longest_key=max(k.size for _, k in one),
                reach=_reach(one, self.position),
                own=i == 0,
            )
            for i, one in enumerate(spans)
        )


def _trees(inside: np.ndarray, root: np.ndarray, cut: Cut) -> list[Spans]:
    """The tokens of each tree of which any stands inside, in their order: a tree sees nothing but itself."""
    tokens = np.flatnonzero(inside)
    at = root[cut.segment[tokens]]
    order = np.argsort(at, kind="stable")
    spans = np.split(tokens[order], np.flatnonzero(np.diff(at[order])) + 1) if tokens.size else []
    return [(span, span) for span in spans]


def _ends(spans: Sequence[Spans]) -> list[np.ndarray]:
    """Where each span starts, and where the last one ends, of the queries and of the keys."""
    sizes = [[span[side].size for span in spans] for side in (0, 1)]
    return [np.concatenate(([0], np.cumsum(size))).astype(np.int32) for size in sizes]


def _reach(spans: Sequence[Spans], position: np.ndarray) -> int:
    return int(max(position[q].max() - position[k].min() for q, k in spans))


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


def _buckets(spans: Sequence[Spans]) -> list[list[Spans]]:
    """Spans of like size together: as few kernel calls as keep the padded area within `PADDING` of the real one."""
    out: list[list[Spans]] = []
    queries = keys = area = 0
    for q, k in sorted(spans, key=lambda span: (-span[1].size, -span[0].size)):
        grown = max(queries, q.size), max(keys, k.size)
        count = len(out[-1]) + 1 if out else 1
        small = CALL * count
        if out and count * grown[0] * grown[1] <= PADDING * (area + q.size * k.size) + small:
            out[-1].append((q, k))
            (queries, keys), area = grown, area + q.size * k.size
        else:
            out.append([(q, k)])
            queries, keys, area = q.size, k.size, q.size * k.size
    return [sorted(bucket, key=lambda span: int(span[1][0])) for bucket in out]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rectangles:
    """A bucket of spans on its way to become a part: everything still in numpy."""

    query: np.ndarray
    key: np.ndarray
    query_real: np.ndarray
    key_real: np.ndarray
    position: np.ndarray
    reach: int
    own: bool
    tree: np.ndarray | None

    @classmethod
    def of(cls, bucket: Sequence[Spans], cut: Cut, *, own: bool, tree: bool = False) -> _Rectangles:
        query, query_real = _rectangle([q for q, _ in bucket])
        key, key_real = _rectangle([k for _, k in bucket])
        return cls(
            query=query,
            key=key,
            query_real=query_real,
            key_real=key_real,
            position=cut.position,
            reach=_reach(bucket, cut.position),
            own=own,
            tree=cut.seen(query, query_real) if tree else None,
        )

    def arrays(self) -> list[np.ndarray]:
        """What `part` takes, in its order."""
        out = []
        for index, real in ((self.query, self.query_real), (self.key, self.key_real)):
            out += [index, real, index[real], self.position[index]]
            out += [] if real.all() else [np.flatnonzero(real)]
        return out if self.tree is None else [*out, self.tree]

    def part(self, there: Iterator[Tensor]) -> Part:
        """The part, from what `arrays` became on the device."""

        def side(real: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
            return next(there), next(there), next(there), next(there), None if real.all() else next(there)

        query, query_real, query_tokens, query_position, query_cells = side(self.query_real)
        key, key_real, key_tokens, key_position, key_cells = side(self.key_real)
        return Part(
            query=query,
            key=key,
            query_cells=query_cells,
            key_cells=key_cells,
            query_tokens=query_tokens,
            key_tokens=key_tokens,
            query_real=query_real,
            key_real=key_real,
            query_position=query_position,
            key_position=key_position,
            reach=self.reach,
            own=self.own,
            tree=None if self.tree is None else next(there),
        )


def _rectangle(spans: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Spans → `[B, longest]` token indices, padded with each span's last, and which of them are real."""
    size = np.array([span.size for span in spans])
    real = np.arange(size.max())[None, :] < size[:, None]
    index = np.repeat(np.array([span[-1] for span in spans])[:, None], size.max(), axis=1)
    index[real] = np.concatenate(spans)
    return index, real
