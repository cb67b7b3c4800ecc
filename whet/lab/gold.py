"""A lab world's exact reward as a reward: of a run, of an evaluation, of the samples that a report shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from whet.errors import DataError
from whet.lab.worlds import world
from whet.types import Group, Rollout, Score, Task


@dataclass(frozen=True, slots=True)
class GoldReward:
    """A lab world's exact reward; it does not apply to tasks of other worlds."""

    world: str

    def check(self, tasks: Sequence[Task]) -> None:
        """Refuse data without any task of the world, before anything runs."""
        if not any(self._judges(task) for task in tasks):
            raise DataError(
                f"the reward lab:{self.world} judges only the tasks of its own world, and none of the data's is one: "
                f"give data=lab:{self.world}/train, or another reward"
            )

    def _judges(self, task: Task) -> bool:
        return task.meta.get("world") == self.world

    async def __call__(self, groups: Sequence[Group]) -> list[Group]:
        return [g.scored([self._score(g.task, rollout) for rollout in g.rollouts]) for g in groups]

    def _score(self, task: Task, rollout: Rollout) -> Score:
        if not self._judges(task):
            return Score(value=None)
        value, parts = world(self.world).gold(task, rollout.text)
        return Score(value=value, parts=parts)
