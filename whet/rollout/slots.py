"""Room for keys and values of sequences that grow, allocated once."""

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

    def copy(self, source: int, target: int, length: int, *, to: Slots | None = None) -> None:
        """Copy the first `length` tokens of a slot over another, of this room or of `to`."""
        for mine, theirs in zip(self.stores, (self if to is None else to).stores, strict=True):
            theirs[:, target, :, :length] = mine[:, source, :, :length]


def token_bytes(layers: Layers) -> int:
    """Bytes of one token's keys and values in all layers."""
    return sum(x.shape[1] * x.shape[2] * x.element_size() for pair in layers.values() for x in pair)


def empty(layers: Layers) -> dict[int, tuple[Tensor, Tensor]]:
    """Keys and values of no token, of the same shapes, type and device."""
    return {n: (k.new_empty(0, *k.shape[1:]), v.new_empty(0, *v.shape[1:])) for n, (k, v) in layers.items()}
