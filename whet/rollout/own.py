"""Keys and values of the responses themselves, in rooms of the size they need.

    block   room for rows of at most 32, 64, 128 … tokens, each row's keys side by side; a row that outgrows its block
            is copied into the next

A kernel call reads a block as a whole, what is not yet written included: on a CPU reading on is cheaper than skipping
(half of each row's keys took longer than all of them), so that short rows must stand apart from long ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from whet.rollout.cache import compacted
from whet.rollout.draws import Draw
from whet.rollout.slots import Layers, Slots, empty

SHORT = 32
"""Tokens of the smallest block's rows; every other has twice those of the one before, up to the longest response."""


def rooms(longest: int) -> list[int]:
    """Tokens of a row in each block, the largest first.

    >>> rooms(255), rooms(20)
    ([255, 128, 64, 32], [20])
    """
    found, room = [], SHORT
    while room < longest:
        found.append(room)
        room *= 2
    return [longest, *reversed(found)]


class Block:
    """Rows of at most `room` tokens; slot `i` is that of `draws[i]`."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.draws: list[Draw] = []
        self.slots: Slots | None = None

    def resize(self, rows: int, shapes: Layers) -> None:
        """A store of so many rows, with what the old one has."""
        old, self.slots = self.slots, Slots(shapes, count=rows, room=self.room)
        if old is not None:
            for mine, theirs in zip(self.slots.stores, old.stores, strict=True):
                mine[:, : old.count] = theirs

    def move(self, source: int, target: int, draw: Draw) -> None:
        """Copy a draw's keys and values to another slot."""
        assert self.slots is not None
        self.slots.copy(source, target, len(draw.tokens) - 1)

    @property
    def token_bytes(self) -> int:
        return 0 if self.slots is None else self.slots.token_bytes

    def keys_and_values(self, layer: int) -> tuple[Tensor, Tensor]:
        """`[rows, kv_heads, room, d]` each."""
        assert self.slots is not None
        keys, values = self.slots.layers[layer]
        return keys[: len(self.draws)], values[: len(self.draws)]


class Responses:
    """The blocks, largest first; the rows of a step are those of all blocks, one block after the other.

    Stores grow as they must, up to `count` rows, and go when they are empty; `fixed` ones have that room at once and
    for good, so that growing never needs an old and a new store side by side.
    """

    def __init__(self, *, count: int, sizes: Sequence[int], fixed: bool = False) -> None:
        self.count, self.fixed = count, fixed
        self.blocks = [Block(room) for room in sizes]
        self.shapes: Layers = {}
        self.most_bytes = 0

    def shape(self, layers: Layers) -> None:
        """Learn the shapes from the keys and values of any tokens."""
        self.shapes = self.shapes or empty(layers)

    @property
    def bytes(self) -> int:
        return sum(block.slots.bytes for block in self.blocks if block.slots is not None)

    def arrange(self, new: Sequence[Draw]) -> list[Draw]:
        """Ended draws leave, those that outgrow their block move up, new ones come in; the rows of the next step."""
        for block, below in zip(self.blocks, [*self.blocks[1:], None], strict=True):
            # largest first: what moves up is copied before anything is written over it
            slots: list[Draw | None] = [_stays(draw, block) for draw in block.draws]
            if below is None:
                coming = [(0, draw) for draw in new]
            else:
                coming = [(s, d) for s, d in enumerate(below.draws) if d.stopped is None and not _stays(d, below)]
            self._let_in(block, slots, coming, below)
            block.draws = compacted(slots, block.move)
            if not block.draws and not self.fixed:
                block.slots = None
        return [draw for block in self.blocks for draw in block.draws]

    def _let_in(
        self, block: Block, slots: list[Draw | None], coming: Sequence[tuple[int, Draw]], below: Block | None
    ) -> None:
        if not coming:
            return
        self._make_room(block, max(len(slots) - slots.count(None) + len(coming), len(slots)), all=below is None)
        for source, draw in coming:
            target = slots.index(None) if None in slots else len(slots)
            slots[target : target + 1] = [draw]
            if below is not None:
                assert below.slots is not None
                below.slots.copy(source, target, len(draw.tokens) - 1, to=block.slots)

    def _make_room(self, block: Block, rows: int, *, all: bool) -> None:
        """Of the smallest block, where every response begins, and of fixed ones the whole room is made at once."""
        have = 0 if block.slots is None else block.slots.count
        if have < rows:
            block.resize(self.count if all or self.fixed else min(self.count, max(rows, 3 * have // 2)), self.shapes)
            # an old store is there until the new one has its rows
            self.most_bytes = max(self.most_bytes, self.bytes + have * block.room * block.token_bytes)


def _stays(draw: Draw, block: Block) -> Draw | None:
    """The draw, unless it has ended or its next token needs a larger block."""
    return draw if draw.stopped is None and len(draw.tokens) <= block.room else None
