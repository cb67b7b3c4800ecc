"""The parameters that the recipes on real input share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from whet.config import Config
from whet.data.config import DataConfig
from whet.models.config import ModelConfig
from whet.recipes.stage import MakeConfig

STORIES = "models/stories260K/hf"
BABYLLAMA = "models/babyllama-tok105/hf"

Count = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]


class RealData(Config):
    """Where the real data are."""

    folder: str
    """The folder that holds models/, tinystories-sample/, hh-rlhf/ and sentiment-labelled-sentences/."""
    seed: Annotated[int, Field(ge=0)] = 0
    """All randomness follows from it, the held-out share included."""

    def storyteller(self, name: str = STORIES) -> ModelConfig:
        """A pre-trained story model, whose texts end with <s>."""
        return ModelConfig(path=f"{self.folder}/{name}", stop="<s>")


class Dialogues(RealData):
    """One subset of HH-RLHF."""

    subset: Literal["harmless-base", "helpful-base"] = "harmless-base"
    """Which one; mixed they cancel."""
    max_rows: Count | None = None
    """Read no further than this many rows."""
    max_length: Annotated[int, Field(gt=1, le=512)] = 256
    """Longest prompt and answer together, in tokens; the context of the model is 512."""
    overlong: Literal["drop", "keep_end"] = "keep_end"
    """Longer rows are left out, or lose the beginning of their prompt, but never any of an answer; both are counted."""
    holdout: Share = 0.25
    """Share of the dialogues held out."""

    def pairs(self) -> MakeConfig:
        """The stage that writes the pairs that fit."""
        return make(
            "dialogues",
            data=self.folder,
            subset=self.subset,
            model=STORIES,
            max_rows=self.max_rows,
            max_length=self.max_length,
            overlong=self.overlong,
            max_bad_rows=8,
            holdout=self.holdout,
            seed=self.seed,
        )

    def read(self, path: str) -> DataConfig:
        """One of that stage's files, under the same limits."""
        return DataConfig(path=path, max_length=self.max_length, overlong=self.overlong, seed=self.seed)


def make(function: str, **arguments: object) -> MakeConfig:
    """A stage that prepares real input."""
    return MakeConfig(function=f"whet.lab.real:{function}", arguments=arguments)


def judged(function: str, **arguments: object) -> MakeConfig:
    """A stage that judges models of stories."""
    return MakeConfig(function=f"whet.lab.storytelling:{function}", arguments=arguments)
