"""What a batch of draws asks of whoever keeps its keys and values; `Copies` and `Shared` are the two answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from whet.models.attention import Plan
from whet.rollout.draws import Draw


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A prompt whose keys and values are to be kept for `draws` responses: its tokens `start:end` of a prefill."""

    request: int
    start: int
    end: int
    draws: int


class Reading(Plan, Protocol):
    """The attention of one decode step; `kv_read` are the bytes of keys and values it reads in all layers."""

    called: set[int]

    @property
    def kv_read(self) -> int: ...


class Cache(Protocol):
    """Where the keys and values of a call of the engine are, from a prompt's forward to its last response's end."""

    def hold(self, prompts: Sequence[Held], layers: dict[int, tuple[Tensor, Tensor]]) -> None:
        """Keep what a prefill computed for these prompts; `layers` is emptied."""
        ...

    def fits(self, lengths: Sequence[int]) -> bool:
        """Whether there is room for prompts of these lengths now."""
        ...

    def arrange(self, rows: Sequence[Draw], new: Sequence[Draw]) -> list[Draw]:
        """The rows of the next step: those of the last that have not ended, and new ones whose prompts are held."""
        ...

    def end(self, draw: Draw) -> None:
        """A draw that had a row has ended."""
        ...

    def plan(self, rows: Sequence[Draw], position: Tensor, index: Tensor) -> Reading:
        """A step in which row `i` feeds the last token of `rows[i]`, which stands at `position[i]`.

        `index` counts the tokens drawn so far; both tensors may have more rows, whose attention means nothing.
        """
        ...

    @property
    def kv_bytes(self) -> int:
        """The most that was allocated until now."""
        ...


def compacted(slots: list[Draw | None], move: Callable[[int, int, Draw], None]) -> list[Draw]:
    """The draws without holes: the last ones move, `move(source, target, draw)`, into those that are left."""
    for target in [slot for slot, draw in enumerate(slots) if draw is None]:
        while slots and slots[-1] is None:
            slots.pop()
        if target >= len(slots):
            break
        draw = slots[target] = slots.pop()
        assert draw is not None
        move(len(slots), target, draw)
    return [draw for draw in slots if draw is not None]
