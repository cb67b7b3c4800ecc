"""SPPO: log-ratios to the last model that follow how often an answer wins against it, round after round."""

from __future__ import annotations

from whet.recipes import recipe
from whet.recipes.rounds import InRounds, Rate, Several
from whet.recipes.stage import Stages
from whet.registry import Choice


class SppoParams(InRounds):
    """What SPPO may be told."""

    group: Several = 5
    """Answers to each prompt; one's rate of wins is over the others, and the best and the worst are learned from."""
    eta: Rate = 1e3
    """The step: a log-ratio is to be eta (rate of wins − ½)."""


@recipe
def sppo(params: SppoParams) -> Stages:
    """Self-play preference optimisation by win rates against the last model (Wu et al., 2024, arXiv:2405.00675).

    whet run sppo model=Qwen/Qwen2.5-1.5B-Instruct data=prompts.jsonl prefer=my.py:prefer
    """
    model = params.model
    for number in range(1, params.rounds + 1):
        made = yield params.answers(
            f"answers_{number}", model, (number, params.rounds), group=params.group, select=Choice("best_and_worst")
        )
        learned = yield params.learn(f"round_{number}", model, made["pairs"], Choice("sppo", {"eta": params.eta}))
        model = learned.model
