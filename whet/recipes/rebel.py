"""REBEL: differences of log-ratios that follow differences of rewards, round after round."""

from __future__ import annotations

from whet.recipes import recipe
from whet.recipes.rounds import InRounds, Rate, Several
from whet.recipes.stage import Stages
from whet.registry import Choice


class RebelParams(InRounds):
    """What REBEL may be told."""

    group: Several = 2
    """Answers to each prompt, every two of which are learned from."""
    epochs: Rate = 4.0
    """Passes over each round's pairs."""
    eta: Rate = 1.0
    """The step, in log-probabilities per unit of reward."""


@recipe
def rebel(params: RebelParams) -> Stages:
    """Regression of relative rewards on the last model's answers (Gao et al., 2024, arXiv:2404.16767).

    whet run rebel model=Qwen/Qwen2.5-1.5B-Instruct data=prompts.jsonl reward=model:FOLDER
    """
    model = params.model
    for number in range(1, params.rounds + 1):
        made = yield params.answers(
            f"answers_{number}", model, (number, params.rounds), group=params.group, select=Choice("all_pairs")
        )
        learned = yield params.learn(f"round_{number}", model, made["pairs"], Choice("rebel", {"eta": params.eta}))
        model = learned.model
