"""Configuration models and shelves that the tests of the configuration share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import settings
from pydantic import Field, model_validator

from whet.config import Config, Loaded, load
from whet.errors import ConfigError
from whet.registry import Choice, Either, Shelf

FAST = settings(max_examples=50, deadline=None, derandomize=True, database=None)


def shelf(kind: str, *functions: Any) -> Shelf:
    """A shelf that lives in no file of its own."""
    made = Shelf(kind, __name__)
    for function in functions:
        made.add(function)
    return made


def dpo(chosen: Any, rejected: Any, *, beta: float = 0.1, smoothing: float = 0.0) -> None: ...
def ipo(chosen: Any, rejected: Any, *, tau: float = 0.1) -> None: ...
def kto(responses: Any, *, beta: float = 0.1, weights: tuple[float, ...] = (1.0, 1.0)) -> None: ...
def length(rollout: Any, *, limit: int) -> None: ...


pair_loss, rating_loss = shelf("pair loss", dpo, ipo), shelf("rating loss", kto)
rewards_shelf = shelf("reward", length)


class Optim(Config):
    lr: Annotated[float, Field(gt=0)] = 1e-4
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of the moments."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Its shape."""


class Lora(Config):
    rank: int = 8
    """Rank of the update."""


class Model(Config):
    path: str
    """A folder or a name on the hub."""
    lora: Lora | None = None
    """Adapters instead of all weights."""


class Weighted(Config):
    reward: Annotated[Choice, rewards_shelf] = Choice("length", {"limit": 9})
    """What scores."""
    weight: float = 1.0
    """Its factor."""


class Critic(Config):
    loss: Annotated[Choice, pair_loss] = Choice("ipo")
    optim: Optim = Optim(lr=1e-3)
    trunk: Model | None = None


class Loop(Config):
    model: Model
    """What learns."""
    loss: Annotated[Choice, Either(pair_loss, rating_loss)] = Choice("dpo", {"beta": 0.3})
    """The method."""
    optim: Optim = Optim()
    """Optimizer."""
    rewards: tuple[Weighted, ...] = (Weighted(),)
    """Weighted and added."""
    critic: Critic | None = None
    """A value function."""
    data: str | tuple[str, ...] = ()
    """Where the rows are."""
    folder: Path = Path("runs")
    """Where the run goes."""
    extra: dict[str, int] = Field(default_factory=dict)
    """Anything counted."""
    flag: bool = False
    """A switch."""

    @model_validator(mode="after")
    def _agree(self) -> Loop:
        if self.flag and not self.extra:
            raise ValueError("flag=true needs something in extra")
        return self


def said(*overrides: str, **more: Any) -> list[str]:
    """The problems of a configuration, one a line."""
    with pytest.raises(ConfigError) as caught:
        load(Loop, overrides=overrides, **more)
    first, *rest = str(caught.value).splitlines()
    return [line.strip() for line in rest] if rest else [first]


def given_in(loaded: Loaded[Any]) -> dict[str, str]:
    """The origins that are not "default"."""
    return {key: origin for key, origin in loaded.origins.items() if origin != "default"}
