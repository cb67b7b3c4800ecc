"""Keys and values of prompts, each kept once for all its responses.

    page     room for up to `PAGE` prompts of like length, side by side, so that one kernel call serves them all
    place    a prompt's slot in a page; the prompts of a page stand at its front, so that a call reads views

A prompt is let go when its last response has ended, an empty page with it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from whet.rollout.cache import Held
from whet.rollout.slots import Slots, token_bytes

PAGE = 8
"""Prompts of one page, at most."""
SPREAD = 1.5
"""How much longer the longest prompt of a page may be than its shortest, since all are read to the longest."""


@dataclass(slots=True, kw_only=True, eq=False)
class Page:
    """Room for `slots.count` prompts; place `i` holds the prompt of `requests[i]`, `lengths[i]` tokens of it."""

    slots: Slots
    requests: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    @property
    def place_bytes(self) -> int:
        """Bytes of one prompt's place in all layers."""
        return self.slots.room * self.slots.token_bytes

    def let_go(self, request: int) -> None:
        """Drop a prompt; the last one takes its place."""
        place, last = self.requests.index(request), len(self.requests) - 1
        if place < last:
            self.slots.copy(last, place, self.lengths[last])
            self.requests[place], self.lengths[place] = self.requests[last], self.lengths[last]
        del self.requests[last], self.lengths[last]


class Prompts:
    """The pages in use; `lengths` are those of all prompts that may come, which is how pages get their size.

    All pages together have at most `budget` bytes.
    """

    def __init__(self, lengths: Iterable[int], *, budget: int | None = None) -> None:
        self.budget, self.token_bytes = budget, 0
        self.rooms: list[int] = []
        self.coming: Counter[int] = Counter()
        for length in sorted(lengths, reverse=True):
            if not self.rooms or SPREAD * length < self.rooms[0]:
                self.rooms.insert(0, length)
            self.coming[self.rooms[0]] += 1
        self.pages: list[Page] = []
        self.most_bytes = 0
        self.page_of: dict[int, Page] = {}
        self.draws: dict[int, int] = {}

    @property
    def bytes(self) -> int:
        return sum(page.slots.bytes for page in self.pages)

    def room(self, length: int) -> int:
        """The tokens a place has that a prompt of this length gets."""
        return self.rooms[bisect_left(self.rooms, length)]

    def fits(self, lengths: Sequence[int]) -> bool:
        """Whether prompts of these lengths find a place now."""
        if self.budget is None:
            return True
        more = self._more(map(self.room, lengths))
        return self.bytes + more * self.token_bytes <= self.budget

    def _more(self, rooms: Iterable[int]) -> int:
        """The tokens that new pages need for prompts of these rooms, once the free places are taken."""
        wanted = Counter(rooms)
        for page in self.pages:
            wanted[page.slots.room] -= page.slots.count - len(page.requests)
        return sum(room * max(0, count) for room, count in wanted.items())

    def hold(self, prompts: Sequence[Held], layers: dict[int, tuple[Tensor, Tensor]]) -> None:
        """Copy the prompts into pages, layer by layer; each layer is let go as soon as it is copied."""
        rooms = [self.room(held.end - held.start) for held in prompts]
        places = [(held, *self._place(held, layers, rooms[n:])) for n, held in enumerate(prompts, start=1)]
        for layer in list(layers):
            pair = layers.pop(layer)
            for held, page, place in places:
                page.slots.write(place, layer, pair, held.start, held.end)

    def _place(self, held: Held, layers: dict[int, tuple[Tensor, Tensor]], others: Sequence[int]) -> tuple[Page, int]:
        """Its page and place; `others` are the rooms of prompts that follow, to which `fits` has promised places."""
        length = held.end - held.start
        room = self.room(length)
        page = next((p for p in self.pages if p.slots.room == room and len(p.requests) < p.slots.count), None)
        if page is None:
            self.token_bytes = token_bytes(layers)
            count = min(PAGE, self.coming[room])
            if self.budget is not None:
                left = (self.budget - self.bytes) // self.token_bytes - self._more(r for r in others if r != room)
                count = min(count, max(1, left // room))
            page = Page(slots=Slots(layers, count=count, room=room))
            self.pages.append(page)
            self.most_bytes = max(self.most_bytes, self.bytes)
        self.coming[room] -= 1
        page.requests.append(held.request)
        page.lengths.append(length)
        self.page_of[held.request], self.draws[held.request] = page, held.draws
        return page, len(page.requests) - 1

    def end(self, request: int) -> bool:
        """One response fewer needs the prompt; True where it was the last."""
        self.draws[request] -= 1
        if self.draws[request]:
            return False
        del self.draws[request]
        page = self.page_of.pop(request)
        page.let_go(request)
        if not page.requests:
            self.pages.remove(page)
        return True
