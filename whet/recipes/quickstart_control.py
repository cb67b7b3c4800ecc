"""The quickstart's control: the same reward model on labels that a fair coin decided."""

from __future__ import annotations

from whet.recipes import recipe
from whet.recipes.quickstart import RewardParams, compared_of, make, reward_of, sft_of
from whet.recipes.stage import Stage, Stages


@recipe
def quickstart_control(params: RewardParams) -> Stages:
    """A reward model on shuffled labels: its held-out accuracy is what learning nothing looks like.

    whet run quickstart_control

    Reached, mean of five seeds: 55.9 %.
    """
    sft = yield Stage(name="sft", config=sft_of(params))
    compared = yield Stage(
        name="compare", config=make("comparisons", {**compared_of(params, sft.model), "shuffled": True})
    )
    yield Stage(name="reward", config=reward_of(params, compared))
