"""Where the offline loop's trees come from: a dataset, or the policy itself (`whet.train.answers`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from whet.batch import Tree
from whet.data.order import Cursor
from whet.metrics import Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The trees of one step, what is to be said of them, and the rows of what was sampled for them."""

    trees: Sequence[Tree]
    metrics: Mapping[str, Metric] = field(default_factory=dict[str, Metric])
    rollouts: Sequence[Mapping[str, Any]] = ()


class TreeSource(Protocol):
    """What gives the trees of a step, the same ones on every rank and on every resume."""

    def next(self, step: int) -> Drawn: ...

    def visits(self, steps: int) -> Sequence[tuple[Tree, int]]:
        """Trees that are known beforehand, with how often each comes in so many steps."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Trees that are there already, in cursor order."""

    trees: Sequence[Tree]
    cursor: Cursor

    def next(self, step: int) -> Drawn:
        return Drawn(trees=[self.trees[i] for i in self.cursor.batch_at(step - 1)])

    def visits(self, steps: int) -> list[tuple[Tree, int]]:
        return list(zip(self.trees, self.cursor.visits(steps), strict=True))
