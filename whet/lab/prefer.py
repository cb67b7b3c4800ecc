"""A lab world's annotator as one who compares: it knows the exact reward, and errs in known ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from whet.errors import DataError
from whet.lab.annotators import BT
from whet.lab.data import judged
from whet.types import Task


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
