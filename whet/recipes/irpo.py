"""Iterative RPO: right answers of the last model against wrong ones, DPO and the likelihood of the right; and again."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from whet.recipes import recipe
from whet.recipes.rounds import Count, Rate, Sampled, Several
from whet.recipes.stage import Stages
from whet.registry import Choice
from whet.rewards.config import RewardConfig


class IrpoParams(Sampled):
    """What iterative RPO may be told."""

    reward: str
    """The verifier, above 0 for right answers: Python function `my.py:score`, a built-in's name, or `lab:WORLD`."""
    rounds: Count = 4
    """How many."""
    group: Several = 30
    """Answers to each prompt."""
    pairs: Count = 10
    """Pairs of a right and a wrong answer to each prompt, at most."""
    beta: Rate = 0.1
    """DPO's."""
    alpha: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the right answer's mean negative log-likelihood."""

    def judge(self) -> dict[str, Any]:
        """The verifier."""
        return {"rewards": (RewardConfig(function=self.reward),)}


@recipe
def irpo(params: IrpoParams) -> Stages:
    """Iterative reasoning preference optimisation with a verifier as reward (Pang et al., 2024, arXiv:2404.19733).

    whet run irpo model=Qwen/Qwen2.5-1.5B-Instruct data=questions.jsonl reward=final_number
    """
    model = params.model
    for number in range(1, params.rounds + 1):
        made = yield params.answers(
            f"answers_{number}",
            model,
            (number, params.rounds),
            group=params.group,
            select=Choice("right_and_wrong", {"pairs": params.pairs}),
        )
        loss = Choice("irpo", {"beta": params.beta, "alpha": params.alpha})
        learned = yield params.learn(f"round_{number}", model, made["pairs"], loss)
        model = learned.model
