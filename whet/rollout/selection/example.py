"""Groups for the worked examples of this shelf."""

from __future__ import annotations

from whet.types import Group, Rollout, Score, Task


def of_rewards(*rewards: float | None) -> Group:
    """Answers of one token each with these rewards."""
    answers = (
        Rollout(task_id="t", tokens=(0, i + 1), mask=(False, True), source=("prompt", "sampled"), text=str(i), index=i)
        for i in range(len(rewards))
    )
    scores = (Score(value=reward) for reward in rewards)
    return Group(task=Task(id="t", messages=()), members=tuple(zip(answers, scores, strict=True)))
