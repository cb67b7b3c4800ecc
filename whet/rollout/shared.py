"""Decoding with every prompt's keys and values kept and read once for all its responses, for CPUs.

    own part      each row's query against the keys of its own response, in a slot of its own
    prefix part   the queries of all rows of a prompt, side by side, against the prompt's keys

and merged by their log-sum-exp, as the forest does in training: out = Σ_p exp(lse_p − lse) out_p. Responses of like
length stand together, the longest first, so that a kernel call reads few keys that its rows do not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from whet.models.flash import FAR, FLASH_DTYPES
from whet.rollout.cache import Held
from whet.rollout.draws import Draw
from whet.rollout.prompts import Page, Prompts
from whet.rollout.slots import Slots

SHORT = 32
"""Responses of up to this many tokens are one block; every block after it holds those of up to twice as many."""
CALL_BYTES = 1 << 18
"""Two blocks share a kernel call where that reads fewer bytes for nothing than are read in the time a call takes."""

_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Rows `start:end`, whose responses have at most `longest` tokens."""

    start: int
    end: int
    longest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixPart:
    """The rows of a page's prompts as a rectangle `index` `[prompts · width]`, padded with a row of any of them."""

    page: Page
    index: Tensor
    prompts: int
    width: int
    longest: int
    lengths: Tensor | None


class Shared:
    """Pages of prompts, and `count` slots of `room` tokens for what follows them."""

    def __init__(self, *, count: int, room: int, lengths: Iterable[int]) -> None:
        """`lengths` are those of all prompts that may come."""
        self.count, self.room = count, room
        self.prompts = Prompts(lengths)
        self.own: Slots | None = None
        self._parts: tuple[list[PrefixPart], Tensor] | None = None

    def hold(self, prompts: Sequence[Held], layers: dict[int, tuple[Tensor, Tensor]]) -> None:
        if self.own is None:
            self.own = Slots(layers, count=self.count, room=self.room)
        self.prompts.hold(prompts, layers)

    def block(self, draw: Draw) -> int:
        return (max(len(draw.tokens) - 1, 0) // SHORT).bit_length()

    def move(self, moves: Sequence[tuple[int, int]], rows: Sequence[Draw | None]) -> None:
        assert self.own is not None
        self._parts = None
        self.own.move(moves, {row: len(draw.tokens) - 1 for row, draw in enumerate(rows) if draw is not None})

    def enter(self, row: int, draw: Draw) -> None:
        self._parts = None

    def end(self, draw: Draw) -> None:
        self.prompts.end(draw.request)
        self._parts = None

    def plan(self, rows: Sequence[Draw], position: Tensor, index: Tensor) -> SharedPlan:
        assert self.own is not None
        if self._parts is None:
            self._parts = prefix_parts([draw.request for draw in rows], self.prompts, position.device)
        parts, cell = self._parts
        lengths = [len(draw.tokens) for draw in rows]
        blocks = spans(lengths, [self.block(draw) for draw in rows], self.own.token_bytes // len(self.own.layers))
        return SharedPlan(
            self.own,
            spans=blocks,
            parts=parts,
            cell=cell,
            position=position[: len(rows)],
            place=index[: len(rows)] - 1,
            furthest=max(draw.length for draw in rows),
        )

    @property
    def kv_bytes(self) -> int:
        return self.prompts.bytes + (0 if self.own is None else self.own.bytes)


def spans(lengths: Sequence[int], blocks: Sequence[int], token_bytes: int) -> list[Span]:
    """One span for each block of rows, or for several where a kernel call costs more than what it would save.

    >>> [(s.start, s.end, s.longest) for s in spans([900, 40, 33, 7], [5, 1, 1, 0], 4096)]
    [(0, 1, 900), (1, 4, 40)]
    """
    found: list[Span] = []
    for _, group in groupby(range(len(lengths)), key=blocks.__getitem__):
        rows = list(group)
        longest, last = max(lengths[row] for row in rows), found[-1] if found else None
        if last is not None and len(rows) * (last.longest - longest) * token_bytes <= CALL_BYTES:
            found[-1] = Span(start=last.start, end=rows[-1] + 1, longest=max(longest, last.longest))
        else:
            found.append(Span(start=rows[0], end=rows[-1] + 1, longest=longest))
    return found


def prefix_parts(requests: Sequence[int], prompts: Prompts, device: torch.device) -> tuple[list[PrefixPart], Tensor]:
    """The rectangles of all pages that rows need, and where in their outputs, one after the other, each row's is."""
    members: dict[int, list[int]] = {}
    for row, request in enumerate(requests):
        members.setdefault(request, []).append(row)
    parts: list[PrefixPart] = []
    cell, offset = [0] * len(requests), 0
    for page in prompts.pages:
        rows = [members.get(request, []) for request in page.requests]
        while rows and not rows[-1]:
            rows.pop()
        if not rows:
            continue
        width, some = max(map(len, rows)), rows[-1][0]
        for place, mine in enumerate(rows):
            for at, row in enumerate(mine, start=offset + place * width):
                cell[row] = at
        lengths = page.lengths[: len(rows)]
        index = [row for mine in rows for row in (*mine, *[some] * (width - len(mine)))]
        parts.append(
            PrefixPart(
                page=page,
                index=torch.tensor(index, device=device),
                prompts=len(rows),
                width=width,
                longest=max(lengths),
                lengths=None if min(lengths) == max(lengths) else torch.tensor(lengths, device=device),
            )
        )
        offset += len(rows) * width
    return parts, torch.tensor(cell, device=device)


class SharedPlan:
    """One decode step over rows 0 … n-1: the new token of row `i` stands at `place[i]` of slot `i`.

    `position` is its place with its prompt counted, `furthest` one more than the greatest of them. A call may bring
    more rows; nothing is kept of them and their attention is 0.
    """

    def __init__(
        self,
        own: Slots,
        *,
        spans: Sequence[Span],
        parts: Sequence[PrefixPart],
        cell: Tensor,
        position: Tensor,
        place: Tensor,
        furthest: int,
    ) -> None:
        self.own, self.spans, self.parts, self.cell = own, spans, parts, cell
        self.position, self.place, self.furthest = position, place, furthest
        self.called: set[int] = set()
        self._masks: dict[tuple[object, ...], Tensor | None] = {}
        self._places: dict[int, Tensor] = {}

    @property
    def kv_read(self) -> int:
        own = sum((span.end - span.start) * span.longest for span in self.spans)
        return (own + sum(part.prompts * part.longest for part in self.parts)) * self.own.token_bytes

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scaling: float | None,
        window: int | None = None,
        softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """Store the new keys and values, attend over both parts: query `[1, heads, n, d]` → `[1, n, heads, d]`."""
        self.called.add(layer)
        rows, kv_heads, width = self.position.numel(), key.shape[1], key.shape[3]
        keys, values = self.own.layers[layer]
        self._store(keys, key)
        self._store(values, value)
        # the query heads that share a key head stand in the query axis, so that no key is repeated
        new = query[0].transpose(0, 1)[:rows].reshape(rows, kv_heads, -1, width)
        scale = width**-0.5 if scaling is None else float(scaling)
        near = self._own(keys, values, new, scale, window, softcap)
        far = self._prefix(layer, new, scale, window, softcap)
        out = merged(near, far, sinks).to(query.dtype).reshape(rows, -1, value.shape[3])
        if rows < query.shape[2]:
            out = torch.cat((out, out.new_zeros(query.shape[2] - rows, *out.shape[1:])))
        return out[None]

    def _store(self, slots: Tensor, new: Tensor) -> None:
        heads, width = new.shape[1], new.shape[3]
        if heads not in self._places:
            start = torch.arange(self.place.numel() * heads, device=self.place.device).view(-1, heads)
            self._places[heads] = (start * self.own.room + self.place[:, None]).view(-1)
        vectors = new[0].transpose(0, 1)[: self.place.numel()].reshape(-1, width)
        slots.view(-1, width).index_copy_(0, self._places[heads], vectors)

    def _own(
        self, keys: Tensor, values: Tensor, query: Tensor, scale: float, window: int | None, softcap: float | None
    ) -> tuple[Tensor, Tensor]:
        """Output `[n, kv_heads, heads / kv_heads, d]` and log-sum-exp of the part that is the row's alone."""
        mask = self._own_mask(window, query.dtype)
        found = []
        for span in self.spans:
            rows, columns = slice(span.start, span.end), slice(0, span.longest)
            part = query[rows], keys[rows, :, columns], values[rows, :, columns], mask[rows, ..., columns]
            found.append(_attend(*part, scale=scale, softcap=softcap))
        return found[0] if len(found) == 1 else (torch.cat([o for o, _ in found]), torch.cat([s for _, s in found]))

    def _prefix(
        self, layer: int, query: Tensor, scale: float, window: int | None, softcap: float | None
    ) -> tuple[Tensor, Tensor]:
        """The same for the part that rows of one prompt share."""
        _, heads, repeat, width = query.shape
        outs, sums = [], []
        for number, part in enumerate(self.parts):
            shape = part.prompts, part.width, heads, repeat
            new = query.index_select(0, part.index).view(*shape, width).transpose(1, 2).flatten(2, 3)
            keys, values = (x[: part.prompts, :, : part.longest] for x in part.page.slots.layers[layer])
            mask = self._prefix_mask(number, window, repeat, query.dtype)
            out, logsum = _attend(new, keys, values, mask, scale=scale, softcap=softcap)
            outs.append(out.unflatten(2, (part.width, repeat)).transpose(1, 2).flatten(0, 1))
            sums.append(logsum.unflatten(2, (part.width, repeat)).transpose(1, 2).flatten(0, 1))
        out, logsum = (x[0] if len(x) == 1 else torch.cat(x) for x in (outs, sums))
        return out.index_select(0, self.cell), logsum.index_select(0, self.cell)

    def _own_mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """0 where a row may look, far below elsewhere, `[n, 1, 1, longest]`; a window counts the token itself."""
        longest = self.spans[0].longest
        window = None if window is None or window >= longest else window
        if ("own", window, dtype) not in self._masks:
            column, place = torch.arange(longest, device=self.place.device), self.place[:, None]
            unseen = column > place
            if window is not None:
                unseen |= column <= place - window
            self._masks["own", window, dtype] = _far(unseen, dtype)[:, None, None]
        mask = self._masks["own", window, dtype]
        assert mask is not None
        return mask

    def _prefix_mask(self, number: int, window: int | None, repeat: int, dtype: torch.dtype) -> Tensor | None:
        """The same for a rectangle, `[prompts, 1, 1 or width · heads / kv_heads, longest]`; None: all is seen."""
        part = self.parts[number]
        window = None if window is None or window >= self.furthest else window
        if window is None and part.lengths is None:
            return None
        if (number, window, repeat, dtype) not in self._masks:
            column = torch.arange(part.longest, device=self.position.device)
            unseen = column.new_zeros(part.prompts, 1, part.longest, dtype=torch.bool)
            if part.lengths is not None:
                unseen = unseen | (column >= part.lengths[:, None])[:, None]
            if window is not None:
                position = self.position[part.index].view(part.prompts, part.width, 1)
                unseen = (unseen | (column <= position - window)).repeat_interleave(repeat, dim=1)
            self._masks[number, window, repeat, dtype] = _far(unseen, dtype)[:, None]
        return self._masks[number, window, repeat, dtype]


def _far(unseen: Tensor, dtype: torch.dtype) -> Tensor:
    """Finite, since a window may hide all of a part: its log-sum-exp is then so small that it has no share."""
    far = max(-FAR, torch.finfo(dtype).min / 2)
    return torch.zeros(unseen.shape, dtype=dtype, device=unseen.device).masked_fill_(unseen, far)


def _attend(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, *, scale: float, softcap: float | None
) -> tuple[Tensor, Tensor]:
    """softmax(S) V and log Σ exp S with S = soft-cap(scale · Q Kᵀ) + mask; `[B, heads, Q, d]`, `[B, heads, Q]`."""
    flash = softcap is None and query.device.type == "cpu" and query.dtype in FLASH_DTYPES
    if flash and keys.shape[3] == values.shape[3]:
        return _kernel(query, keys, values, 0.0, False, attn_mask=mask, scale=scale)
    scores = (query @ keys.transpose(2, 3) * scale).to(torch.promote_types(query.dtype, torch.float32))
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is not None:
        scores = scores + mask
    logsum = scores.logsumexp(-1)
    return (scores - logsum[..., None]).exp().to(values.dtype) @ values, logsum


def merged(near: tuple[Tensor, Tensor], far: tuple[Tensor, Tensor], sinks: Tensor | None) -> Tensor:
    """Attention over two parts' keys together, from outputs `[n, kv_heads, r, d]` and log-sum-exps `[n, kv_heads, r]`.

        out = Σ_p exp(lse_p − lse) out_p,  and where a head has a sink s (a score without a value): · exp(lse − lse ⊕ s)

    >>> one, two = torch.tensor([[[[1.0]]]]), torch.tensor([[[[3.0]]]])
    >>> merged((one, torch.zeros(1, 1, 1)), (two, torch.tensor([[[3.0]]]).log()), None).item()
    2.5
    """
    wide = torch.promote_types(near[0].dtype, torch.float32)
    out = torch.lerp(near[0].to(wide), far[0].to(wide), torch.sigmoid(far[1] - near[1]).to(wide)[..., None])
    if sinks is not None:
        whole = torch.logaddexp(near[1], far[1]).to(wide)
        out = out * torch.sigmoid(whole - sinks.to(wide).view(1, *out.shape[1:3]))[..., None]
    return out
