"""Who compares two answers, and what an answer's rate of wins is. Imports no torch.

    prefer(task, a, b) → P(a ≻ b)                 a function, plain or a coroutine; a is shown first
    P(a ≻ b) = σ(r(a) − r(b))                     of any reward: Bradley–Terry
    r_i = 1/|J_i| Σ_{j ∈ J_i} P(y_i ≻ y_j)        J_i: the siblings that answer i was compared with

Without oneself among the others the mean of all r_i is 1/2, whatever the judge thinks. `include_self` counts a draw
against oneself too, which shrinks r_i − 1/2 by (K − 1)/K: SPPO's public code does. Answers that say the same are equal
by definition, so nobody is asked. Where some of a group's answers are another model's (`Rollout.sampler`), answers are
compared across the two sides only. The places of a table are those of the group's members.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from whet.errors import RewardError
from whet.rewards.combine import Checked
from whet.rewards.deadline import Caller, Overdue
from whet.types import Group, Prefer, Reward, Score, Task

Table = tuple[tuple[float | None, ...], ...]
"""P(answer i is better than answer j) at [i][j]; None where the two were not compared."""


class Compares(Protocol):
    """Whoever compares the answers of groups: one table a group."""

    async def __call__(self, groups: Sequence[Group]) -> list[Table]: ...


def sides(group: Group) -> list[tuple[int, int]]:
    """Which answers are compared, i < j: all with all, or where some are another model's, the policy's with those."""
    own = [rollout.sampler == "policy" for rollout in group.rollouts]
    places = range(len(own))
    mixed = len(set(own)) > 1
    return [(i, j) for i in places for j in places if i < j and not (mixed and own[i] == own[j])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """A function prefer(task, a, b) as one who compares groups.

    With `both_orders` every two answers are shown in both orders and the two opinions averaged, which takes out what a
    judge gives to the place. A function that raises or exceeds its deadline ends the run, by name; a comparison that it
    answers with None is left out of every mean, and counted.
    """

    name: str
    prefer: Prefer
    both_orders: bool = False
    deadline: float = 60.0
    options: Mapping[str, Any] = field(default_factory=dict)
    caller: Caller = field(default_factory=Caller)

    async def __call__(self, groups: Sequence[Group]) -> list[Table]:
        if self._waits:
            return await asyncio.gather(*map(self._table, groups))
        return [await self._table(group) for group in groups]

    def check(self, tasks: Sequence[Task]) -> None:
        """Refuse data that the function itself refuses, before anything runs."""
        if isinstance(self.prefer, Checked):
            self.prefer.check(tasks)

    @property
    def _waits(self) -> bool:
        """Whether the function is asynchronous: then all comparisons wait at the same time."""
        of_type = type(self.prefer).__call__
        return inspect.iscoroutinefunction(self.prefer) or inspect.iscoroutinefunction(of_type)

    async def _table(self, group: Group) -> Table:
        pairs = sides(group)
        texts = [rollout.text for rollout in group.rollouts]
        asked = [self._both(group.task, texts[i], texts[j]) for i, j in pairs]
        found = await asyncio.gather(*asked) if self._waits else [await one for one in asked]
        return table_of(len(texts), dict(zip(pairs, found, strict=True)))

    async def _both(self, task: Task, a: str, b: str) -> float | None:
        if a == b:
            return 0.5
        forth = await self._one(task, a, b)
        if not self.both_orders or forth is None:
            return forth
        back = await self._one(task, b, a)
        return None if back is None else (forth + 1.0 - back) / 2

    async def _one(self, task: Task, a: str, b: str) -> float | None:
        try:
            said = await self.caller.call(lambda: self.prefer(task, a, b, **self.options), seconds=self.deadline)
        except Overdue:
            raise RewardError(
                f"the judge {self.name} did not return within its deadline of {self.deadline:g} s, on task "
                f"{task.id!r}; make it faster, or raise deadline"
            ) from None
        except asyncio.CancelledError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise RewardError(f"the judge {self.name} raised {said}, on task {task.id!r}") from error
        return probability(said, name=self.name, task=task.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class BradleyTerry:
    """Any reward as one who compares: P(a ≻ b) = σ(r(a) − r(b)); no comparison with what it cannot judge."""

    reward: Reward

    async def __call__(self, groups: Sequence[Group]) -> list[Table]:
        return [self._table(group) for group in await self.reward(groups)]

    def check(self, tasks: Sequence[Task]) -> None:
        """As the reward does."""
        if isinstance(self.reward, Checked):
            self.reward.check(tasks)

    def _table(self, group: Group) -> Table:
        values = [None if score is None else score.value for score in group.scores]
        found: dict[tuple[int, int], float | None] = {}
        for i, j in sides(group):
            a, b = values[i], values[j]
            found[i, j] = None if a is None or b is None else 0.5 + 0.5 * math.tanh((a - b) / 2)  # σ
        return table_of(len(values), found)


@dataclass(frozen=True, slots=True, kw_only=True)
class WinRates:
    """Comparisons as a reward: an answer's value is its rate of wins over its siblings (SPO, Swamy et al. 2024).

    An answer that was compared with nobody is unscorable, by the judge's fault. `needed` makes it an error where that
    is so of all answers: nothing could be learned from such a step.
    """

    name: str
    compare: Compares
    include_self: bool = False
    needed: bool = False

    def check(self, tasks: Sequence[Task]) -> None:
        """Refuse data that the judge cannot compare, before anything runs."""
        if tasks and isinstance(self.compare, Checked):
            self.compare.check(tasks)

    async def __call__(self, groups: Sequence[Group]) -> list[Group]:
        tables = await self.compare(groups)
        scored = [
            compared(group, table, include_self=self.include_self) for group, table in zip(groups, tables, strict=True)
        ]
        scores = [score for group in scored for score in group.scores]
        if self.needed and scores and all(score is None or score.value is None for score in scores):
            raise RewardError(
                f"the judge {self.name} gave None for every comparison of the step, the first on task "
                f"{groups[0].task.id!r}, so there is nothing to learn from; None means that two answers cannot be "
                "compared, so give a probability where they can"
            )
        return scored


async def win_rates(
    group: Group, prefer: Prefer, *, include_self: bool = False, both_orders: bool = False, name: str = "prefer"
) -> list[float | None]:
    """Each answer's rate of wins over its siblings; None where it was compared with nobody.

    >>> from whet.rewards.waiting import finished
    >>> from whet.types import Rollout
    >>> def longer(task, a, b): return 0.5 + 0.5 * (len(a) > len(b)) - 0.5 * (len(a) < len(b))
    >>> said = [Rollout(task_id="t", tokens=(1, 2), mask=(False, True), source=("prompt", "sampled"), text=text)
    ...         for text in ("a", "abc", "ab")]
    >>> group = Group(task=Task(id="t", messages=()), members=tuple((one, None) for one in said))
    >>> finished(win_rates(group, longer))
    [0.0, 1.0, 0.5]
    >>> [round(rate, 3) for rate in finished(win_rates(group, longer, include_self=True))]
    [0.167, 0.833, 0.5]
    """
    (table,) = await Judge(name=name, prefer=prefer, both_orders=both_orders)([group])
    return rates(table, include_self=include_self)


def rates(table: Table, *, include_self: bool = False) -> list[float | None]:
    """The mean of each row over those that were compared.

    >>> rates(((None, 0.9, 0.4), (0.1, None, 0.5), (0.6, 0.5, None)))
    [0.65, 0.3, 0.55]
    """
    found: list[float | None] = []
    for row in table:
        known = [p for p in row if p is not None]
        beside = 1 if include_self else 0
        found.append((sum(known) + 0.5 * beside) / (len(known) + beside) if known else None)
    return found


def compared(group: Group, table: Table, *, include_self: bool = False) -> Group:
    """The group with rates of wins as scores, each with its row of the table."""
    scores = [
        Score(
            value=rate,
            parts={} if rate is None else {"win_rate": rate},
            fault="infrastructure" if rate is None else None,
            against=row,
        )
        for rate, row in zip(rates(table, include_self=include_self), table, strict=True)
    ]
    return group.scored(scores)


def table_of(size: int, pairs: Mapping[tuple[int, int], float | None]) -> Table:
    """P(i ≻ j) of some i < j → the whole table, P(j ≻ i) = 1 − P(i ≻ j).

    >>> table_of(2, {(0, 1): 0.75})
    ((None, 0.75), (0.25, None))
    """
    rows: list[list[float | None]] = [[None] * size for _ in range(size)]
    for (i, j), p in pairs.items():
        rows[i][j], rows[j][i] = p, None if p is None else 1.0 - p
    return tuple(map(tuple, rows))


def probability(said: Any, *, name: str, task: str) -> float | None:
    """What a judge returned as a checked probability, or None.

    >>> probability(True, name="mine", task="t"), probability(None, name="mine", task="t")
    (1.0, None)
    """
    if said is None:
        return None
    if not isinstance(said, bool | int | float) and getattr(said, "ndim", None) == 0 and hasattr(said, "item"):
        said = said.item()
    if not isinstance(said, bool | int | float) or not 0.0 <= said <= 1.0:
        what = f"{said:g}" if isinstance(said, int | float) else f"a value of type {type(said).__name__}"
        raise RewardError(
            f"the judge {name} returned {what} on task {task!r}; it must be P(the first answer is better), a number "
            "from 0 to 1, or None where the two cannot be compared"
        )
    return float(said)
