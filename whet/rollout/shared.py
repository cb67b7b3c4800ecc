"""Decoding with every prompt's keys and values kept and read once for all its responses, for CPUs.

    own part      each row's query against the keys of its own response, in a slot of its own
    prefix part   the queries of all rows of a prompt, side by side, against the prompt's keys

and merged by their log-sum-exp, as the forest does in training: out = Σ_p exp(lse_p − lse) out_p.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from whet.models.attention import AttentionPath
from whet.models.flash import FLASH_DTYPES
from whet.models.parts import far
from whet.models.softmax import attention_of, beside_sinks
from whet.rollout.cache import Held
from whet.rollout.draws import Draw
from whet.rollout.own import Block, Responses, rooms
from whet.rollout.prompts import Page, Prompts

_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default


CALL_BYTES = 1 << 22
"""What a kernel call costs, as the bytes of keys and values against which queries are multiplied in that time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixPart:
    """Places `start:end` of a page, and the rows of their prompts as a rectangle `index` `[(end - start) · width]`.

    A prompt with fewer rows than `width` is padded with a row of any. `lengths` are the prompts' tokens, None where
    they fill the page's room.
    """

    page: Page
    start: int
    end: int
    width: int
    index: Tensor
    lengths: Tensor | None


class Shared:
    """Pages of prompts, and blocks of up to `count` responses of at most `longest` tokens that follow them.

    `lengths` are those of all prompts that may come. With a `budget`, bytes for prompts, blocks are `sizes` large and
    never grow.
    """

    def __init__(
        self,
        *,
        count: int,
        longest: int,
        lengths: Iterable[int],
        sizes: Sequence[int] | None = None,
        budget: int | None = None,
        attention: AttentionPath,
    ) -> None:
        self.attention: AttentionPath = attention
        self.prompts = Prompts(lengths, budget=budget)
        self.own = Responses(count=count, sizes=sizes or rooms(longest), fixed=budget is not None)
        self._rows: list[Draw] = []
        self._parts: tuple[list[PrefixPart], Tensor] | None = None

    def hold(self, prompts: Sequence[Held], layers: dict[int, tuple[Tensor, Tensor]]) -> None:
        self.own.shape(layers)
        self.prompts.hold(prompts, layers)

    def fits(self, lengths: Sequence[int]) -> bool:
        return self.prompts.fits(lengths)

    def arrange(self, rows: Sequence[Draw], new: Sequence[Draw]) -> list[Draw]:
        return self.own.arrange(new)

    def end(self, draw: Draw) -> None:
        self.prompts.end(draw.request)

    def plan(self, rows: Sequence[Draw], position: Tensor, index: Tensor) -> SharedPlan:
        if self._parts is None or self._rows != rows:
            self._rows = list(rows)
            self._parts = prefix_parts([draw.request for draw in rows], self.prompts, position.device)
        parts, cell = self._parts
        return SharedPlan(
            [block for block in self.own.blocks if block.draws],
            parts=parts,
            cell=cell,
            position=position[: len(rows)],
            place=index[: len(rows)] - 1,
            furthest=max(draw.length for draw in rows),
            attention=self.attention,
        )

    @property
    def kv_bytes(self) -> int:
        return self.prompts.most_bytes + self.own.most_bytes


def prefix_parts(requests: Sequence[int], prompts: Prompts, device: torch.device) -> tuple[list[PrefixPart], Tensor]:
    """The rectangles of all pages that rows need, and where in their outputs, one after the other, each row's is."""
    members: dict[int, list[int]] = {}
    for row, request in enumerate(requests):
        members.setdefault(request, []).append(row)
    parts: list[PrefixPart] = []
    cell, offset = [0] * len(requests), 0
    for page in prompts.pages:
        rows = [members.get(request, []) for request in page.requests]
        call = CALL_BYTES * len(page.slots.layers) // page.place_bytes
        for start, end in rectangles([len(mine) for mine in rows], call=call):
            width = max(len(mine) for mine in rows[start:end])
            some = next(mine[0] for mine in rows[start:end] if mine)
            for place, mine in enumerate(rows[start:end]):
                for at, row in enumerate(mine, start=offset + place * width):
                    cell[row] = at
            index = [row for mine in rows[start:end] for row in (*mine, *[some] * (width - len(mine)))]
            lengths = page.lengths[start:end]
            parts.append(
                PrefixPart(
                    page=page,
                    start=start,
                    end=end,
                    width=width,
                    index=torch.tensor(index, device=device),
                    lengths=torch.tensor(lengths, device=device) if min(lengths) < page.slots.room else None,
                )
            )
            offset += len(index)
    return parts, torch.tensor(cell, device=device)


def rectangles(counts: Sequence[int], *, call: int) -> list[tuple[int, int]]:
    """Neighbours whose numbers of rows are alike, as (start, end): padding them to the greatest costs less than `call`.

    >>> rectangles([1, 2, 8, 8, 7], call=8)
    [(0, 2), (2, 5)]
    >>> rectangles([0, 3, 0], call=1)
    [(1, 2)]
    """
    found: list[tuple[int, int, int]] = []
    for place, count in enumerate(counts):
        start, end, width = found[-1] if found else (0, 0, 0)
        grown = max(width, count)
        if found and (end + 1 - start) * grown <= (end - start) * width + count + call:
            found[-1] = (start, place + 1, grown)
        else:
            found.append((place, place + 1, count))
    return [(start, end) for start, end, width in found if width]


class SharedPlan:
    """One decode step over the rows of `blocks`: the new token of row `i` is number `place[i]` of its response.

    `position` is its place with its prompt counted, `furthest` one more than the greatest of them. A call may bring
    more rows; nothing is kept of them and their attention is 0.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        *,
        parts: Sequence[PrefixPart],
        cell: Tensor,
        position: Tensor,
        place: Tensor,
        furthest: int,
        attention: AttentionPath,
    ) -> None:
        self.attention: AttentionPath = attention
        self.blocks, self.parts, self.cell = blocks, parts, cell
        self.position, self.place, self.furthest = position, place, furthest
        ends = list(accumulate(len(block.draws) for block in blocks))
        self.spans = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
        self.called: set[int] = set()
        self._own_masks: dict[tuple[int | None, torch.dtype], list[Tensor]] = {}
        self._masks: dict[tuple[int, int | None, int, torch.dtype], Tensor] = {}
        self._places: dict[int, list[Tensor]] = {}

    @property
    def kv_read(self) -> int:
        own = sum(len(block.draws) * block.room * block.token_bytes for block in self.blocks)
        return own + sum(
            (part.end - part.start) * part.page.slots.room * part.page.slots.token_bytes for part in self.parts
        )

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
        own = [block.keys_and_values(layer) for block in self.blocks]
        for side, vectors in enumerate((key, value)):
            self._store([pair[side] for pair in own], vectors)
        # the query heads that share a key head stand in the query axis, so that no key is repeated
        new = query[0].transpose(0, 1)[:rows].reshape(rows, kv_heads, -1, width)
        scale = width**-0.5 if scaling is None else float(scaling)
        mine = self._own(own, new, scale, window, softcap)
        prompt = self._prefix(layer, new, scale, window, softcap)
        out = merged(mine, prompt, sinks).to(query.dtype).reshape(rows, -1, value.shape[3])
        if rows < query.shape[2]:
            out = torch.cat((out, out.new_zeros(query.shape[2] - rows, *out.shape[1:])))
        return out[None]

    def _store(self, rooms: Sequence[Tensor], new: Tensor) -> None:
        """Write the new vectors `[1, kv_heads, n, d]` where they belong in each block."""
        heads, width = new.shape[1], new.shape[3]
        if heads not in self._places:
            self._places[heads] = [self._place(*pair, heads) for pair in zip(self.blocks, self.spans, strict=True)]
        vectors = new[0].transpose(0, 1)
        for room, place, span in zip(rooms, self._places[heads], self.spans, strict=True):
            room.view(-1, width).index_copy_(0, place, vectors[span].reshape(-1, width))

    def _place(self, block: Block, span: slice, heads: int) -> Tensor:
        """Where each row's new vectors go, counted in vectors of one layer's block."""
        start = torch.arange(len(block.draws) * heads, device=self.place.device).view(-1, heads)
        return (start * block.room + self.place[span, None]).view(-1)

    def _own(
        self,
        own: Sequence[tuple[Tensor, Tensor]],
        query: Tensor,
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> tuple[Tensor, Tensor]:
        """Output `[n, kv_heads, heads / kv_heads, d]` and log-sum-exp of the part that is the row's alone."""
        masks = self._own_mask(window, query.dtype)
        found = [
            _attend(query[span], keys, values, mask, scale=scale, softcap=softcap, attention=self.attention)
            for (keys, values), mask, span in zip(own, masks, self.spans, strict=True)
        ]
        return found[0] if len(found) == 1 else (torch.cat([o for o, _ in found]), torch.cat([s for _, s in found]))

    def _prefix(
        self, layer: int, query: Tensor, scale: float, window: int | None, softcap: float | None
    ) -> tuple[Tensor, Tensor]:
        """The same for the part that rows of one prompt share."""
        _, heads, repeat, width = query.shape
        outs, sums = [], []
        for number, part in enumerate(self.parts):
            shape = part.end - part.start, part.width, heads, repeat
            new = query.index_select(0, part.index).view(*shape, width).transpose(1, 2).flatten(2, 3)
            keys, values = (x[part.start : part.end] for x in part.page.slots.layers[layer])
            mask = self._prefix_mask(number, window, repeat, query.dtype)
            out, logsum = _attend(new, keys, values, mask, scale=scale, softcap=softcap, attention=self.attention)
            outs.append(out.unflatten(2, (part.width, repeat)).transpose(1, 2).flatten(0, 1))
            sums.append(logsum.unflatten(2, (part.width, repeat)).transpose(1, 2).flatten(0, 1))
        out, logsum = (x[0] if len(x) == 1 else torch.cat(x) for x in (outs, sums))
        return out.index_select(0, self.cell), logsum.index_select(0, self.cell)

    def _own_mask(self, window: int | None, dtype: torch.dtype) -> list[Tensor]:
        """0 where a row may look, far below elsewhere, `[rows, 1, 1, room]`; a window counts the token itself."""
        window = None if window is None or window >= self.blocks[0].room else window
        if (window, dtype) not in self._own_masks:
            column, place = torch.arange(self.blocks[0].room, device=self.place.device), self.place[:, None]
            masks = []
            for block, span in zip(self.blocks, self.spans, strict=True):
                unseen = column[: block.room] > place[span]
                if window is not None:
                    unseen |= column[: block.room] <= place[span] - window
                masks.append(far(unseen, dtype)[:, None, None])
            self._own_masks[window, dtype] = masks
        return self._own_masks[window, dtype]

    def _prefix_mask(self, number: int, window: int | None, repeat: int, dtype: torch.dtype) -> Tensor | None:
        """The same for a rectangle, `[prompts, 1, 1 or width · heads / kv_heads, room]`; None: all is seen."""
        part = self.parts[number]
        window = None if window is None or window >= self.furthest else window
        if window is None and part.lengths is None:
            return None
        if (number, window, repeat, dtype) not in self._masks:
            column = torch.arange(part.page.slots.room, device=self.position.device)
            unseen = column.new_zeros(part.end - part.start, 1, column.numel(), dtype=torch.bool)
            if part.lengths is not None:
                unseen = unseen | (column >= part.lengths[:, None])[:, None]
            if window is not None:
                position = self.position[part.index].view(-1, part.width, 1)
                unseen = (unseen | (column <= position - window)).repeat_interleave(repeat, dim=1)
            self._masks[number, window, repeat, dtype] = far(unseen, dtype)[:, None]
        return self._masks[number, window, repeat, dtype]


def _attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    *,
    scale: float,
    softcap: float | None,
    attention: AttentionPath,
) -> tuple[Tensor, Tensor]:
    """softmax(S) V and log Σ exp S with S = soft-cap(scale · Q Kᵀ) + mask; `[B, heads, Q, d]`, `[B, heads, Q]`."""
    fusible = attention == "fast" and softcap is None
    if fusible and query.device.type == "cpu" and query.dtype in FLASH_DTYPES and keys.shape[3] == values.shape[3]:
        return _kernel(query, keys, values, 0.0, False, attn_mask=mask, scale=scale)
    return attention_of(query, keys, values, mask, scale=scale, softcap=softcap)


def merged(one: tuple[Tensor, Tensor], two: tuple[Tensor, Tensor], sinks: Tensor | None) -> Tensor:
    """Attention over two parts' keys together, from outputs `[n, kv_heads, r, d]` and log-sum-exps `[n, kv_heads, r]`.

        out = Σ_p exp(lse_p − lse) out_p,  and where a head has a sink s (a score without a value): · exp(lse − lse ⊕ s)

    >>> one, two = torch.tensor([[[[1.0]]]]), torch.tensor([[[[3.0]]]])
    >>> merged((one, torch.zeros(1, 1, 1)), (two, torch.tensor([[[3.0]]]).log()), None).item()
    2.5
    """
    wide = torch.promote_types(one[0].dtype, torch.float32)
    out = torch.lerp(one[0].to(wide), two[0].to(wide), torch.sigmoid(two[1] - one[1]).to(wide)[..., None])
    if sinks is not None:
        whole = torch.logaddexp(one[1], two[1]).to(wide)
        out = beside_sinks(out, whole, sinks.to(wide).view(1, *out.shape[1:3]))
    return out
