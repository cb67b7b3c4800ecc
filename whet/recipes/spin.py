"""SPIN: the data's own answers against the model's, round after round."""

from __future__ import annotations

from whet.recipes import recipe
from whet.recipes.rounds import Count, Rate, Sampled
from whet.recipes.stage import Stages
from whet.registry import Choice


class SpinParams(Sampled):
    """What SPIN may be told."""

    rounds: Count = 4
    """How many; the paper's are its iterations 0 to 3."""
    beta: Rate = 0.1
    """DPO's, in the first three rounds."""
    late_beta: Rate = 5.0
    """From the fourth round on."""


@recipe
def spin(params: SpinParams) -> Stages:
    """Self-play fine-tuning: chosen is the data's answer, rejected the last model's (Chen et al., 2024, 2401.01335).

    whet run spin model=lab:base data=demonstrations.jsonl
    """
    model = params.model
    for number in range(1, params.rounds + 1):
        made = yield params.answers(
            f"answers_{number}",
            model,
            (number, params.rounds),
            group=2,
            select=Choice("best_and_worst"),
            teacher="chosen",
        )
        beta = params.beta if number <= 3 else params.late_beta
        learned = yield params.learn(f"round_{number}", model, made["pairs"], Choice("dpo", {"beta": beta}))
        model = learned.model
