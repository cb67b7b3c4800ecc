"""Room for keys and values, allocated once, and the order of the rows that hold it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Layers = Mapping[int, tuple[Tensor, Tensor]]
"""Keys and values of each layer, `[T, kv_heads, d]`, as a `ForestPlan` keeps them."""


class Slots:
    """Room for the keys and values of `count` sequences of at most `room` tokens, allocated once.

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
            # zeros, for what a mask hides is multiplied by 0 and must be finite
            store = layers[layer][side].new_zeros(len(members), count, heads, room, width)
            self.stores.append(store)
            place.update(zip(members, store.unbind(0), strict=True))
        self.layers = {layer: (place[layer, 0], place[layer, 1]) for layer in layers}
        self.token_bytes = token_bytes(layers)

    @property
    def bytes(self) -> int:
        return self.count * self.room * self.token_bytes

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

    def write(self, slot: int, layer: int, pair: tuple[Tensor, Tensor], start: int, end: int) -> None:
        """Copy the tokens `start:end` of one layer's keys and values to the front of a slot."""
        for store, source in zip(self.layers[layer], pair, strict=True):
            store[slot, :, : end - start] = source[start:end].transpose(0, 1)

    def move(self, moves: Sequence[tuple[int, int]], lengths: Mapping[int, int]) -> None:
        """Copy slots over slots, (source, target) all at once; of each source the first `lengths[source]` tokens."""
        sources = {target: source for source, target in moves}
        aside: dict[int, list[Tensor]] = {}
        while sources:
            needed = set(sources.values()) - aside.keys()
            target = next((target for target in sources if target not in needed), None)
            if target is None:  # only rings are left: one of each steps aside
                source = next(iter(needed))
                aside[source] = [store[:, source, :, : lengths[source]].clone() for store in self.stores]
                continue
            source = sources.pop(target)
            held = aside.get(source) or [store[:, source, :, : lengths[source]] for store in self.stores]
            for store, what in zip(self.stores, held, strict=True):
                store[:, target, :, : lengths[source]] = what


def token_bytes(layers: Layers) -> int:
    """Bytes of one token's keys and values in all layers."""
    return sum(x.shape[1] * x.shape[2] * x.element_size() for pair in layers.values() for x in pair)


def arranged(blocks: Sequence[int | None], *, new: int) -> tuple[list[tuple[int, int]], list[int]]:
    """The fewest moves that leave rows without holes, those of greater block first: (source, target), and free places.

    `blocks[row]` is the row's block, or None for a hole. `new` rows of block 0 come in, at the places returned.

    >>> arranged([1, None, 0, 0], new=1)
    ([], [1])
    >>> arranged([0, 1, 1, None], new=0)
    ([(2, 0), (0, 2)], [])
    >>> arranged([2, None, 1, 0, 0], new=1)
    ([(2, 1)], [2])
    """
    counts: dict[int, int] = {0: new}
    for block in blocks:
        if block is not None:
            counts[block] = counts.get(block, 0) + 1
    moves: list[tuple[int, int]] = []
    places: list[int] = []
    start = 0
    for block in sorted(counts, reverse=True):
        end = start + counts[block]
        free = [row for row in range(start, end) if row >= len(blocks) or blocks[row] != block]
        strays = [row for row, mine in enumerate(blocks) if mine == block and not start <= row < end]
        moves += zip(strays, free[: len(strays)], strict=True)
        places += free[len(strays) :]
        start = end
    return moves, places
