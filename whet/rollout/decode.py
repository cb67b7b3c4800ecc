"""Decoding in its simplest form: every response has a copy of its prompt's keys and values, in a slot of its own.

Row `i` of a decode step is slot `i`; the rows in use stand at the front, so a step reads views and copies nothing.
`DecodePlan` travels through the model in one step as `ForestPlan` does in training: the attention layers hand it
queries, keys and values and get the answer back. `whet.rollout.shared` keeps each prompt once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from whet.models.attention import AttentionPath
from whet.models.parts import far
from whet.models.softmax import attention_of, beside_sinks
from whet.rollout.cache import Held, compacted
from whet.rollout.draws import Draw
from whet.rollout.slots import Slots


@dataclass(slots=True, kw_only=True)
class _Joined:
    """A prompt's keys and values on their way to `waiting` slots: tokens `start:end` of what a prefill joined."""

    joined: Sequence[Tensor]
    start: int
    end: int
    waiting: int


class Copies:
    """`count` slots of `room` tokens, prompt included; a prompt is copied into the slot of each of its responses.

    Slots and the prompts that wait beside them have at most `budget` bytes.
    """

    def __init__(self, *, count: int, room: int, budget: int | None = None, attention: AttentionPath) -> None:
        self.count, self.room, self.budget = count, room, budget
        self.attention: AttentionPath = attention
        self.slots: Slots | None = None
        self.prompts: dict[int, _Joined] = {}
        self.most_bytes = 0

    def hold(self, prompts: Sequence[Held], layers: dict[int, tuple[Tensor, Tensor]]) -> None:
        if self.slots is None:
            self.slots = Slots(layers, count=self.count, room=self.room)
        end = max(held.end for held in prompts)
        joined = self.slots.joined({layer: (keys[:end], values[:end]) for layer, (keys, values) in layers.items()})
        layers.clear()
        for held in prompts:
            self.prompts[held.request] = _Joined(joined=joined, start=held.start, end=held.end, waiting=held.draws)
        self.most_bytes = max(self.most_bytes, self.bytes)

    @property
    def bytes(self) -> int:
        """Of the slots, and of every prefill of which a prompt still waits."""
        waiting = {id(tensor): tensor.nbytes for held in self.prompts.values() for tensor in held.joined}
        return sum(waiting.values()) + (0 if self.slots is None else self.slots.bytes)

    def fits(self, lengths: Sequence[int]) -> bool:
        if self.budget is None:
            return True
        assert self.slots is not None
        return self.bytes + sum(lengths) * self.slots.token_bytes <= self.budget

    def arrange(self, rows: Sequence[Draw], new: Sequence[Draw]) -> list[Draw]:
        """New draws take the slots of those that ended, then the end; what is free after that the last rows take."""
        slots: list[Draw | None] = [None if draw.stopped is not None else draw for draw in rows]
        for draw in new:
            free = slots.index(None) if None in slots else len(slots)
            slots[free : free + 1] = [draw]
            self._enter(free, draw)
        return compacted(slots, lambda source, target, draw: self._move(source, target, draw.length - 1))

    def _move(self, source: int, target: int, length: int) -> None:
        assert self.slots is not None
        self.slots.copy(source, target, length)

    def _enter(self, row: int, draw: Draw) -> None:
        assert self.slots is not None
        held = self.prompts[draw.request]
        self.slots.fill(row, held.joined, held.start, held.end)
        held.waiting -= 1
        if not held.waiting:
            del self.prompts[draw.request]

    def end(self, draw: Draw) -> None:
        """Its slot is written over by the next."""

    def plan(self, rows: Sequence[Draw], position: Tensor, index: Tensor) -> DecodePlan:
        assert self.slots is not None
        return DecodePlan(
            self.slots, position[: len(rows)], max(draw.length for draw in rows), attention=self.attention
        )

    def static(self, position: Tensor, columns: int) -> DecodePlan:
        """A step over all rows of `position` that reads the first `columns` of their slots, whatever they hold."""
        assert self.slots is not None
        return DecodePlan(self.slots, position, columns, attention=self.attention)

    @property
    def kv_bytes(self) -> int:
        return self.most_bytes


class DecodePlan:
    """One decode step over rows 0 … n-1: the new token of row `i` stands at `position[i]` of slot `i`.

    `longest` bounds what is read: one more than the greatest position of any row that matters. A call may bring more
    rows; nothing is kept of them and their attention is 0.
    """

    def __init__(self, slots: Slots, position: Tensor, longest: int, *, attention: AttentionPath) -> None:
        self.slots, self.position, self.longest = slots, position, longest
        self.attention: AttentionPath = attention
        self.called: set[int] = set()
        self._masks: dict[tuple[int | None, torch.dtype], Tensor] = {}
        self._places: dict[int, Tensor] = {}

    @property
    def kv_read(self) -> int:
        return self.position.numel() * self.longest * self.slots.token_bytes

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
        """Store the new keys and values, attend over the slots: query `[1, heads, n, d]` → `[1, n, heads, d]`."""
        self.called.add(layer)
        rows, kv_heads, width = self.position.numel(), key.shape[1], key.shape[3]
        all_keys, all_values = self.slots.layers[layer]
        self._store(all_keys, key[:, :, :rows])
        self._store(all_values, value[:, :, :rows])
        keys, values = all_keys[:rows, :, : self.longest], all_values[:rows, :, : self.longest]
        # the query heads that share a key head stand in the query axis, so that no key is repeated
        total, query = query.shape[2], query[0].transpose(0, 1)[:rows].reshape(rows, kv_heads, -1, width)
        mask = self._mask(window, query.dtype)
        if self.attention == "fast" and softcap is None and sinks is None:
            out = functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scaling)
        else:
            scale = width**-0.5 if scaling is None else scaling
            out, lse = attention_of(query, keys, values, mask, scale=scale, softcap=softcap)
            out = out if sinks is None else beside_sinks(out, lse, sinks.to(lse.dtype).view(1, *lse.shape[1:]))
            out = out.to(values.dtype)
        out = out.reshape(1, rows, -1, value.shape[3])
        return out if rows == total else torch.cat((out, out.new_zeros(1, total - rows, *out.shape[2:])), dim=1)

    def _store(self, slots: Tensor, new: Tensor) -> None:
        heads, width = new.shape[1], new.shape[3]
        slots.view(-1, width).index_copy_(0, self._place(heads), new[0].transpose(0, 1).reshape(-1, width))

    def _place(self, heads: int) -> Tensor:
        """Where each row's new vectors go, counted in vectors of one layer's store, `[n * heads]`."""
        if heads not in self._places:
            start = torch.arange(self.position.numel() * heads, device=self.position.device).view(-1, heads)
            self._places[heads] = (start * self.slots.room + self.position[:, None]).view(-1)
        return self._places[heads]

    def _mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """0 where a row may look, far below elsewhere, `[n, 1, 1, longest]`; a window counts the token itself."""
        window = None if window is None or window >= self.longest else window
        if (window, dtype) not in self._masks:
            column, position = torch.arange(self.longest, device=self.position.device), self.position[:, None]
            unseen = column > position
            if window is not None:
                unseen |= column <= position - window
            self._masks[window, dtype] = far(unseen, dtype)[:, None, None]
        return self._masks[window, dtype]
