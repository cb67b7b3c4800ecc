"""Iterative DPO: answers of the last model, the best against the worst, DPO, and again."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from whet.recipes import recipe
from whet.recipes.rounds import InRounds, Rate, Several
from whet.recipes.stage import Stages
from whet.registry import Choice


class IterativeParams(InRounds):
    """What iterative DPO may be told."""

    group: Several = 8
    """Answers to each prompt, of which the best and the worst are learned from."""
    beta: Rate = 0.1
    """DPO's."""
    reference: Literal["previous", "initial"] = "previous"
    """Whether each round stays close to the round before, or all to the model that the first began with."""
    length_penalty: Annotated[float, Field(ge=0)] = 0.0
    """What a token costs in an answer's value; the public code counts letters."""


@recipe
def iterative_dpo(params: IterativeParams) -> Stages:
    """DPO on the best and the worst of the last model's answers (Xiong et al., 2023, arXiv:2312.11456).

    whet run iterative_dpo model=Qwen/Qwen2.5-1.5B-Instruct data=prompts.jsonl reward=model:FOLDER
    """
    model = params.model
    for number in range(1, params.rounds + 1):
        made = yield params.answers(
            f"answers_{number}",
            model,
            (number, params.rounds),
            group=params.group,
            select=Choice("best_and_worst"),
            length_penalty=params.length_penalty,
        )
        reference = params.model if params.reference == "initial" and number > 1 else None
        loss = Choice("dpo", {"beta": params.beta})
        learned = yield params.learn(f"round_{number}", model, made["pairs"], loss, reference=reference)
        model = learned.model
