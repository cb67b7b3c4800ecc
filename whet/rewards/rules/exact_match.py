"""Exact match: the answer, and nothing but the answer, up to spaces and capital letters."""

from __future__ import annotations

from whet.rewards import reward
from whet.types import Rollout, Score, Task


@reward
def exact_match(task: Task, rollout: Rollout, *, case: bool = False) -> Score:
    """1 where the whole text is the task's reference answer, else 0; None where the task has no reference answer.

    Spaces at the ends and runs of spaces inside do not count; capital letters count only with `case`.

    >>> task = Task(id="t", messages=(), answer="New York")
    >>> def says(text):
    ...     return Rollout(task_id="t", tokens=(1, 2), mask=(False, True), source=("prompt", "sampled"), text=text)
    >>> exact_match(task, says(" new  york")).value, exact_match(task, says("in New York")).value
    (1.0, 0.0)
    >>> exact_match(task, says("new york"), case=True).value
    0.0
    """
    if task.answer is None:
        return Score(value=None)
    said, wanted = " ".join(rollout.text.split()), " ".join(task.answer.split())
    return Score(value=float(said == wanted if case else said.lower() == wanted.lower()))
