"""DNO: win rates among the last model's answers, learned by a classifier, round after round."""

from __future__ import annotations

from whet.recipes import recipe
from whet.recipes.rounds import InRounds, Rate, Several
from whet.recipes.stage import Stages
from whet.registry import Choice


class DnoParams(InRounds):
    """What DNO may be told."""

    group: Several = 5
    """Answers to each prompt; one's rate of wins is over the others."""
    eta: Rate = 0.1
    """The strength of the log-ratios."""


@recipe
def dno(params: DnoParams) -> Stages:
    """Direct Nash optimisation by win rates, all pairs, against the last model (Rosset et al., 2024, arXiv:2404.03715).

    whet run dno model=Qwen/Qwen2.5-1.5B-Instruct data=prompts.jsonl prefer=my.py:prefer
    """
    model = params.model
    for number in range(1, params.rounds + 1):
        made = yield params.answers(
            f"answers_{number}", model, (number, params.rounds), group=params.group, select=Choice("all_pairs")
        )
        learned = yield params.learn(f"round_{number}", model, made["pairs"], Choice("dno", {"eta": params.eta}))
        model = learned.model
