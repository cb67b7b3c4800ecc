"""A lab world's annotator as one who compares: it knows the exact reward, and errs in known ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from whet.errors import DataError
from whet.lab.annotators import BT, noise
from whet.lab.data import judged
from whet.types import Task

TAU = 0.8
"""The noise of `verdict`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatorPrefers:
    """prefer(task, a, b) of `whet.lab.annotators.BT`: P(a ≻ b), a shown first; None for tasks of other worlds.

    >>> from whet.lab.data import tasks
    >>> prefer = AnnotatorPrefers(world="chat", annotator=BT(flip_p=0.1))
    >>> prefer(tasks("chat", "train", 1, 0)[0], "the same", "the same")
    0.5
    """

    world: str
    annotator: BT = field(default_factory=BT)

    def check(self, tasks: Sequence[Task]) -> None:
        """Refuse data without any task of the world, before anything runs."""
        if not any(self._judges(task) for task in tasks):
            raise DataError(
                f"the annotator lab:{self.world} compares only answers to tasks of its own world, and none of the "
                f"data's is one: give data=lab:{self.world}/train, or another judge"
            )

    def _judges(self, task: Task) -> bool:
        return task.meta.get("world") == self.world

    def __call__(self, task: Task, a: str, b: str) -> float | None:
        return self.annotator.probability(judged(task, a), judged(task, b)) if self._judges(task) else None


def verdict(task: Task, a: str, b: str) -> float | None:
    """One noisy verdict of a lab task's annotator: 1 or 0, drawn once for every two answers, whichever is shown first.

    P(1) = σ((gold_a − gold_b) / 0.8)

    >>> from whet.lab.data import tasks
    >>> task = tasks("chat", "train", 1, 0)[0]
    >>> verdict(task, "this", "that") + verdict(task, "that", "this")
    1.0
    """
    if "world" not in task.meta:
        return None
    return _drawn("verdict", task, a, b, BT(tau=TAU).probability(judged(task, a), judged(task, b)))


def coin(task: Task, a: str, b: str) -> float:
    """A verdict that says nothing: a fair coin, tossed once for every two answers.

    >>> from whet.lab.data import tasks
    >>> task = tasks("chat", "train", 1, 0)[0]
    >>> coin(task, "this", "that") + coin(task, "that", "this")
    1.0
    """
    return _drawn("coin", task, a, b, 0.5)


def _drawn(kind: str, task: Task, a: str, b: str, p: float) -> float:
    """1 with probability p, the same for (a, b) and (b, a)."""
    swapped = a > b
    first = noise(0, kind, task.id, *sorted((a, b))).random() < (1.0 - p if swapped else p)
    return float(first != swapped)
