"""The quickstart's control: the same reward model on labels that a fair coin decided."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from whet.config import Config
from whet.recipes import recipe
from whet.recipes.quickstart import Count, QuickstartParams, make, pairs_of, reward_of, sft_of
from whet.recipes.stage import Stage, Stages


class ControlParams(Config):
    """What the quickstart's first stages may be told, with its defaults."""

    seed: int = 0
    """All randomness follows from it."""
    demonstrations: Count = 3000
    """Examples of fine-tuning, half of each world."""
    pairs: Count = 6000
    """Prompts whose two answers are compared."""
    tau: Annotated[float, Field(gt=0)] = 0.5
    """The noise of the annotator whose labels the coin replaces."""
    held: Count = 1000
    """Held-out prompts whose pairs measure the reward model."""


@recipe
def quickstart_control(params: ControlParams) -> Stages:
    """A reward model on shuffled labels: its held-out accuracy is what learning nothing looks like.

    whet run quickstart_control
    """
    same = QuickstartParams(**params.model_dump())
    sft = yield Stage(name="sft", config=sft_of(same))
    pairs = yield Stage(name="pairs", config=make("pairs", {**pairs_of(same, sft.model), "shuffled": True}))
    yield Stage(name="reward", config=reward_of(same, pairs))
