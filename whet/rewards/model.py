"""A decoder with a scalar head as a reward: whole rollouts in forest batches of at most so many tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from whet.batch import TokenBatch, Tree, pack
from whet.data.render import Renderer
from whet.errors import RewardError
from whet.losses.terms import Views
from whet.types import Group, Rollout, Score, Task

ScoreHead = Callable[[TokenBatch, frozenset[str]], Views]
"""A `Decoder` with the head "score": called with a batch and what is wanted of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReward:
    """The reward model's number for each rollout, read at its last token.

    The sampled tokens are scored as they are where `renderer` is None, which asks for one vocabulary of policy and
    reward model; with the reward model's own renderer, task and answer are rendered anew from their text. `end` is the
    stop token put behind an answer that was cut off (in place of its last token, where the context was full): a reward
    model has read finished texts only, and would otherwise judge an answer by whether it ended. With `stop_ids`, an
    answer has ended if its last token is one of them, so that one that ended on a stop string gets `end` too; without,
    `stopped` says so. A conversation that is rendered anew always closes its last turn, `end` or not.
    """

    name: str
    model: ScoreHead
    budget: int
    renderer: Renderer | None = None
    end: int | None = None
    stop_ids: frozenset[int] | None = None

    async def __call__(self, groups: Sequence[Group]) -> list[Group]:
        trees = [
            Tree(rollouts=[self._rollout(group.task, r) for r in group.rollouts]) for group in groups if group.members
        ]
        values = iter(score_trees(self.model, trees, budget=self.budget))
        return [group.scored([self._score(next(values), group.task) for _ in group.rollouts]) for group in groups]

    def _rollout(self, task: Task, rollout: Rollout) -> Rollout:
        if self.renderer is None:
            return rollout if self.end is None or self._has_ended(rollout) else _ended(rollout, self.end)
        if task.plain:
            stop = rollout.stopped == "stop" or self.end is not None
            return self.renderer.plain(task.prompt_text, rollout.text, task_id=task.id, stop=stop)
        turns = rollout.messages or ({"role": "assistant", "content": rollout.text},)
        return self.renderer.conversation((*task.messages, *turns), start=len(task.messages), task_id=task.id)[0]

    def _has_ended(self, rollout: Rollout) -> bool:
        return rollout.stopped == "stop" if self.stop_ids is None else rollout.tokens[-1] in self.stop_ids

    def _score(self, value: float, task: Task) -> Score:
        if not math.isfinite(value):
            raise RewardError(
                f"the reward model {self.name} gave {value} on task {task.id!r}; its weights or inputs are broken"
            )
        return Score(value=value)


def _ended(rollout: Rollout, end: int) -> Rollout:
    """The rollout with one more token behind it, which nobody sampled; a full context has room for it in place of the
    last one only."""
    if rollout.stopped == "overflow":
        return replace(rollout, tokens=(*rollout.tokens[:-1], end))
    tokens, mask = (*rollout.tokens, end), (*rollout.mask, False)
    return replace(rollout, tokens=tokens, mask=mask, source=(*rollout.source, "template"))


def score_trees(model: ScoreHead, trees: Sequence[Tree], *, budget: int) -> list[float]:
    """The scalar head's number for every rollout, in order; siblings share a prompt, pieces hold `budget` tokens."""
    if not trees:
        return []
    batch = pack(trees)
    out = torch.zeros(batch.rows, dtype=torch.float64)
    marked = batch.with_columns(response={"row": torch.arange(batch.rows, dtype=torch.float64)})
    with torch.no_grad():
        for piece in marked.split(budget):
            scores: Tensor = model(piece, frozenset({"score"})).response["score"]
            out[piece.response["row"].long()] = scores.detach().to("cpu", torch.float64)
    return out.tolist()
