"""Where a step's groups come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from whet.data.order import Cursor
from whet.rewards.waiting import finished
from whet.types import Completion, Engine, Group, NoiseKey, Request, Reward, Rollout, Score, Task


class PolicySource:
    """Groups sampled from an engine and scored: prompts in cursor order, noise keyed by seed, step and task.

    Nothing has to be saved: the cursor is a function of the step, the noise of its key, and what was scored is in the
    journal that `reward(step)`, the reward of a step, replays.
    """

    def __init__(
        self,
        *,
        tasks: Sequence[Task],
        render: Callable[[Task], tuple[int, ...]],
        engine: Engine,
        reward: Callable[[int], Reward],
        prompts: int,
        group: int,
        seed: int,
    ) -> None:
        self._tasks, self._render, self._engine, self._reward = tasks, render, engine, reward
        self._group, self._seed = group, seed
        self.cursor = Cursor(n=len(tasks), batch=prompts, seed=seed)

    def next(self, step: int) -> list[Group]:
        chosen = [(self._tasks[i], occurrence) for i, occurrence in self.cursor.draws_at(step - 1)]
        return sample_groups(
            self._engine,
            self._render,
            self._reward(step),
            chosen,
            n=self._group,
            seed=self._seed,
            step=step,
            stream="train",
        )

    def observe(self, groups: Sequence[Group]) -> None:
        """Fixed prompts learn nothing from their outcomes."""

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        assert not state, "a policy source has no state"


def sample_groups(
    engine: Engine,
    render: Callable[[Task], tuple[int, ...]],
    reward: Reward,
    tasks: Sequence[tuple[Task, int]],
    *,
    n: int,
    seed: int,
    step: int,
    stream: str,
) -> list[Group]:
    """Sample `n` responses to each (task, occurrence) and score them, in the order given."""
    requests = [
        Request(
            prompt=render(task),
            key=NoiseKey(seed=seed, stream=stream, step=step, task=task.id, occurrence=occurrence),
            n=n,
        )
        for task, occurrence in tasks
    ]
    drawn = engine.sample(requests)
    groups = [
        Group(task=task, members=tuple((rollout(task, request, c, occurrence, i), None) for i, c in enumerate(done)))
        for (task, occurrence), request, done in zip(tasks, requests, drawn, strict=True)
    ]
    return finished(scored(reward, groups))


async def scored(reward: Reward, groups: Sequence[Group]) -> list[Group]:
    """The groups with their scores; every member has one afterwards."""
    out = await reward(groups)
    assert [g.task.id for g in out] == [g.task.id for g in groups], "a reward returns the groups it was given, in order"
    assert all(isinstance(s, Score) for g in out for s in g.scores), "a reward scores every member"
    return out


def rollout(task: Task, request: Request, completion: Completion, occurrence: int, index: int) -> Rollout:
    """An engine's completion under its prompt, as one flat sequence."""
    prompt, written = request.prompt, completion.tokens
    return Rollout(
        task_id=task.id,
        tokens=prompt + written,
        mask=(False,) * len(prompt) + (True,) * len(written),
        source=("prompt",) * len(prompt) + ("sampled",) * len(written),
        logprobs=completion.logprobs,
        log_mass=completion.log_mass,
        text=completion.text,
        stopped=completion.stopped,
        versions=completion.versions,
        occurrence=occurrence,
        index=index,
    )
