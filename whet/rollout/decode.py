"""Keys and values of the responses being drawn, and how one new token of each attends to them.

Row `i` of a decode step is slot `i`; the rows in use stand at the front, so a step reads views and copies nothing.
`DecodePlan` travels through the model in one step as `ForestPlan` does in training: the attention layers hand it
queries, keys and values and get the answer back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

Layers = Mapping[int, tuple[Tensor, Tensor]]
"""Keys and values of each layer, `[T, kv_heads, d]`, as a `ForestPlan` keeps them."""


class Slots:
    """Room for the keys and values of `count` responses of at most `room` tokens, prompt included, allocated once.

    All tensors of one shape share one store `[members, count, kv_heads, room, d]`: keys and values of every layer of
    an ordinary model, so that filling or moving a slot is a single copy.
    """

    def __init__(self, layers: Layers, *, count: int, room: int) -> None:
        """`layers` are keys and values of any prompt: their shapes, type and device are taken."""
        self.count, self.room = count, room
        self.members: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        for layer, pair in layers.items():
            for side, tensor in enumerate(pair):
                self.members.setdefault(tuple(tensor.shape[1:]), []).append((layer, side))
        self.stores: list[Tensor] = []
        place: dict[tuple[int, int], Tensor] = {}
        for (heads, width), members in self.members.items():
            layer, side = members[0]
            store = layers[layer][side].new_zeros(len(members), count, heads, room, width)
            self.stores.append(store)
            place.update(zip(members, store.unbind(0), strict=True))
        self.layers = {layer: (place[layer, 0], place[layer, 1]) for layer in layers}

    def joined(self, layers: Layers) -> list[Tensor]:
        """A prefill's keys and values in the shape of the stores, `[members, kv_heads, T, d]` each."""
        return [
            torch.stack([layers[layer][side].transpose(0, 1) for layer, side in members])
            for members in self.members.values()
        ]

    def fill(self, slot: int, joined: Sequence[Tensor], start: int, end: int) -> None:
        """Copy the tokens `start:end` of a prefill to the front of a slot."""
        for store, source in zip(self.stores, joined, strict=True):
            store[:, slot, :, : end - start] = source[:, :, start:end]

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of a slot over another."""
        for store in self.stores:
            store[:, target, :, :length] = store[:, source, :, :length]


class DecodePlan:
    """One decode step over rows 0 … n-1: the new token of row `i` stands at `position[i]` of slot `i`.

    `longest` bounds what is read: one more than the greatest position of any row that matters.
    """

    def __init__(self, slots: Slots, position: Tensor, longest: int) -> None:
        self.slots, self.position, self.longest = slots, position, longest
        self.called: set[int] = set()
        self._masks: dict[tuple[int | None, torch.dtype], Tensor] = {}
        self._places: dict[int, Tensor] = {}

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
        self._store(all_keys, key)
        self._store(all_values, value)
        keys, values = all_keys[:rows, :, : self.longest], all_values[:rows, :, : self.longest]
        # the query heads that share a key head stand in the query axis, so that no key is repeated
        query = query[0].transpose(0, 1).reshape(rows, kv_heads, -1, width)
        mask = self._mask(window, query.dtype)
        if softcap is None and sinks is None:
            out = functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scaling)
        else:
            scale = width**-0.5 if scaling is None else scaling
            out = _attend(query, keys, values, mask, scaling=scale, softcap=softcap, sinks=sinks)
        return out.reshape(1, rows, -1, value.shape[3])

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
        """0 where a row may look, -inf elsewhere, `[n, 1, 1, longest]`; a window counts the token itself."""
        window = None if window is None or window >= self.longest else window
        if (window, dtype) not in self._masks:
            column, position = torch.arange(self.longest, device=self.position.device), self.position[:, None]
            unseen = column > position
            if window is not None:
                unseen |= column <= position - window
            mask = torch.zeros(unseen.shape, dtype=dtype, device=unseen.device).masked_fill_(unseen, float("-inf"))
            self._masks[window, dtype] = mask[:, None, None]
        return self._masks[window, dtype]


def _attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor,
    *,
    scaling: float,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Attention written out, for soft-capped scores and for sinks (a learned score per head that takes its share)."""
    scores = query @ keys.transpose(2, 3) * scaling
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = (scores + mask).to(torch.promote_types(scores.dtype, torch.float32))
    if sinks is not None:
        extra = sinks.to(scores.dtype).view(1, *query.shape[1:3], 1).expand(query.shape[0], -1, -1, -1)
        return torch.softmax(torch.cat((scores, extra), dim=-1), dim=-1)[..., :-1].to(values.dtype) @ values
    return torch.softmax(scores, dim=-1).to(values.dtype) @ values
