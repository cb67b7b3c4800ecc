"""What both sides of the quality row are given: the job, the verifier, and the exam with its stopwatch.

Nothing here belongs to a library: the reward is a plain function of texts, the exam draws answers with one engine and
fixed noise whoever trained the weights, and the stopwatch counts a process's CPU time without the exams.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from whet.types import Task

Said = Sequence[Sequence[Mapping[str, str]]]
"""Completions of a conversation: each a list of messages, here of one."""

LIMIT, MOST = 8, 60
"""Most tokens of an answer, its stop token included; steps after which a run gives up."""
TRAIN_TASKS, EXAM_TASKS, ANSWERS = 2000, 800, 2
"""Prompts learned from; held-out prompts of each of the two exams; answers drawn to each of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run: GRPO on `prompts` × `group` answers a step until `target` is measured, or for `most` steps.

    `rate` is the learning rate, `limit` the most tokens of an answer, `every` the steps between two measurements of
    held-out pass@1. `reward` is the verifier, or a coin that knows nothing (the control). `micro` is how many answers
    TRL computes at once in the update (it generates all of a step at once).
    """

    side: Literal["whet", "trl"]
    seed: int
    rate: float
    target: float
    reward: Literal["right", "coin"] = "right"
    prompts: int = 64
    group: int = 16
    limit: int = LIMIT
    every: int = 2
    most: int = MOST
    clip: float = 1.0
    micro: int = 512

    @property
    def name(self) -> str:
        return f"{self.side}-{self.reward}-{self.rate:g}-seed{self.seed}"


def right(completions: Said, answer: Sequence[str], **columns: Any) -> list[float]:
    """1 where the text is the number and nothing else, else 0: the arithmetic world's own reward.

    >>> right([[{"role": "assistant", "content": text}] for text in ("8 5", "It is 85")], ["85", "85"])
    [1.0, 0.0]
    """
    from whet.lab.world_math import answer_in

    texts = [messages[-1]["content"] for messages in completions]
    return [float(answer_in(text, think=False) == wanted) for text, wanted in zip(texts, answer, strict=True)]


def coin(completions: Said, **columns: Any) -> list[float]:
    """0 or 1 by chance alone, the same for the same batch.

    >>> coin([[{"content": "85"}]] * 6)
    [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    """
    drawn = random.Random("/".join(messages[-1]["content"] for messages in completions))
    return [float(drawn.random() < 0.5) for _ in completions]


REWARDS: Mapping[str, Callable[..., Any]] = {"right": right, "coin": coin}


def train_rows(count: int = TRAIN_TASKS) -> list[dict[str, Any]]:
    """The prompts to learn from, as conversations, each with its answer: the same for every run."""
    from whet.lab.data import tasks

    return [
        {"prompt": [dict(m) for m in task.messages], "answer": task.answer} for task in tasks("math", "train", count)
    ]


class Exam:
    """Held-out pass@1 of given weights: answers sampled at temperature 1 with the same noise each time.

    The first exam decides when the target is reached; `final` asks other prompts, so that what a lucky measurement
    gave does not count twice.
    """

    def __init__(self, start: Path, *, limit: int, tasks: int = EXAM_TASKS, answers: int = ANSWERS) -> None:
        from whet.lab.data import tasks as lab_tasks
        from whet.models.config import ModelConfig
        from whet.models.io import load_policy
        from whet.rollout.config import SamplingConfig
        from whet.rollout.torch_engine import engine_of

        asked = lab_tasks("math", "test", 2 * tasks)
        self._first, self._second, self._answers = asked[:tasks], asked[tasks:], answers
        self._model = load_policy(ModelConfig(path=str(start), dtype="float32", device="cpu"))
        self._engine, self._renderer = engine_of(self._model, SamplingConfig(max_new_tokens=limit, slots=256))

    def __call__(self, weights: Mapping[str, Tensor] | None = None) -> float:
        """pass@1 on the prompts that decide; without weights that of the model as it starts."""
        return self._asked(self._first, weights)

    def final(self, weights: Mapping[str, Tensor] | None = None) -> float:
        """pass@1 on the other prompts."""
        return self._asked(self._second, weights)

    def _asked(self, tasks: Sequence[Task], weights: Mapping[str, Tensor] | None) -> float:
        from whet.eval.evaluate import evaluate
        from whet.lab.gold import GoldReward

        if weights is not None:
            self._model.hf.load_state_dict(weights)
        found = evaluate(self._engine, tasks, self._renderer.prompt, GoldReward("math"), k=self._answers, seed=0)
        return found.pass_at[1].value


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Held-out pass@1 after `steps` steps that took `cpu` seconds of this process's processor time."""

    steps: int
    cpu: float
    value: float


class Stopwatch:
    """CPU seconds of this process from the first step on, standing still while `exam` is asked, and what it said."""

    def __init__(
        self,
        job: Job,
        exam: Callable[[Mapping[str, Tensor]], float],
        *,
        clock: Callable[[], float] = time.process_time,
    ) -> None:
        self.job, self._exam, self._clock = job, exam, clock
        self.curve: list[Measured] = []
        self.steps, self.cpu, self._since = 0, 0.0, 0.0

    def begin(self) -> None:
        """The first step begins."""
        self._since = self._clock()

    def step(self, weights: Callable[[], Mapping[str, Tensor]]) -> bool:
        """A step has ended: True where the target is reached or the last step is made."""
        self.cpu += self._clock() - self._since
        self.steps += 1
        over = self.steps >= self.job.most
        if over or self.steps % self.job.every == 0:
            self.curve.append(Measured(steps=self.steps, cpu=self.cpu, value=self._exam(weights())))
            over = over or self.crossing is not None
        self._since = self._clock()
        return over

    @property
    def crossing(self) -> Measured | None:
        """The first measurement at or above the target."""
        return next((found for found in self.curve if found.value >= self.job.target), None)

    def json(self) -> dict[str, Any]:
        """The run so far: its job, its curve, and the crossing or None."""
        crossing = self.crossing
        return {
            "job": asdict(self.job),
            "curve": [asdict(found) for found in self.curve],
            "crossing": None if crossing is None else asdict(crossing),
        }
