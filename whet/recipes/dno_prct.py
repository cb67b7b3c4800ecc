"""DNO-Prct: the last model's answers and one of a teacher; pairs that lie clearly apart; DPO; and again."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from whet.recipes import recipe
from whet.recipes.rounds import InRounds, Rate, Several
from whet.recipes.stage import Stages
from whet.registry import Choice


class DnoPrctParams(InRounds):
    """What DNO-Prct may be told."""

    group: Several = 6
    """Answers to each prompt: one is the data's own, the teacher's, the others the model's."""
    eta: Rate = 0.1
    """The strength of the log-ratios, DPO's beta."""
    least: Annotated[float, Field(ge=0)] = 0.25
    """By how much the values of a pair differ at least; the paper gives no number for rates of wins."""


@recipe
def dno_prct(params: DnoPrctParams) -> Stages:
    """Direct Nash optimisation as it is run: large margins and a teacher (Rosset et al., 2024, arXiv:2404.03715).

    whet run dno_prct model=Qwen/Qwen2.5-1.5B-Instruct data=demonstrations.jsonl prefer=my.py:prefer
    """
    model = params.model
    for number in range(1, params.rounds + 1):
        made = yield params.answers(
            f"answers_{number}",
            model,
            (number, params.rounds),
            group=params.group,
            select=Choice("margin", {"least": params.least}),
            teacher="beside",
        )
        loss = Choice("dno", {"eta": params.eta, "soft": False})
        learned = yield params.learn(f"round_{number}", model, made["pairs"], loss)
        model = learned.model
