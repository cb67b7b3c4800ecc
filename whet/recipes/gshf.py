"""GSHF: iterative DPO with answers drawn farther apart, so that more is seen."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from whet.recipes import recipe
from whet.recipes.rounds import InRounds, Rate, Several
from whet.recipes.stage import Stages
from whet.registry import Choice


class GshfParams(InRounds):
    """What GSHF may be told."""

    group: Several = 8
    """Answers to each prompt, shared equally among the temperatures."""
    beta: Rate = 0.1
    """DPO's."""
    temperatures: Annotated[tuple[Rate, ...], Field(min_length=1)] = (1.0, 0.7)
    """At which temperatures answers are drawn. The paper's second player maximises uncertainty and is run as choices
    of temperature and the best against the worst of many; which temperatures is our choice."""


@recipe
def gshf(params: GshfParams) -> Stages:
    """Iterative DPO with exploration: the best against the worst over temperatures (Xiong et al., 2023, 2312.11456).

    whet run gshf model=Qwen/Qwen2.5-1.5B-Instruct data=prompts.jsonl reward=model:FOLDER
    """
    model = params.model
    for number in range(1, params.rounds + 1):
        made = yield params.answers(
            f"answers_{number}",
            model,
            (number, params.rounds),
            group=params.group,
            select=Choice("best_and_worst"),
            temperatures=params.temperatures,
        )
        learned = yield params.learn(f"round_{number}", model, made["pairs"], Choice("dpo", {"beta": params.beta}))
        model = learned.model
