"""RSO: answers that follow the optimal policy, by rejection sampling from the start; then one round of learning."""

from __future__ import annotations

from whet.recipes import recipe
from whet.recipes.rounds import Judged, Rate, Several
from whet.recipes.stage import Stages
from whet.registry import Choice


class RsoParams(Judged):
    """What RSO may be told."""

    group: Several = 16
    """Candidates for each prompt; the paper draws 64."""
    keep: Several = 8
    """How many of them rejection sampling accepts."""
    beta: Rate = 0.5
    """Its temperature: a candidate is accepted with probability exp((value − best) / beta)."""
    gamma: Rate = 0.05
    """The strength of the log-ratios in the loss."""


@recipe
def rso(params: RsoParams) -> Stages:
    """Statistical rejection sampling, then a hinge on the kept pairs (Liu et al., 2023, arXiv:2309.06657).

    whet run rso model=Qwen/Qwen2.5-1.5B-Instruct data=prompts.jsonl reward=model:FOLDER
    """
    made = yield params.answers(
        "answers",
        params.model,
        (1, 1),
        group=params.group,
        select=Choice("rso", {"beta": params.beta, "keep": params.keep}),
    )
    yield params.learn("rso", params.model, made["pairs"], Choice("rso_hinge", {"beta": params.gamma}))
