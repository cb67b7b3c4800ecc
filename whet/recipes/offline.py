"""Any loss over preferences, labels or rankings on your own data, by its name."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from whet.losses import offline_loss
from whet.recipes import recipe
from whet.recipes.params import OwnPass
from whet.recipes.stage import Stage, Stages
from whet.registry import Choice
from whet.train.config import OfflineConfig, OptimConfig, PlusConfig


class OfflineParams(OwnPass):
    """… with the method as a parameter, alone or as a sum."""

    loss: Annotated[Choice, offline_loss] = Choice("dpo")
    """The method, with options as in `loss={name: dpo, beta: 0.05}` or `loss.beta=0.05`."""
    coef: Annotated[float, Field(gt=0)] = 1.0
    """Its weight beside `plus`."""
    plus: tuple[PlusConfig, ...] = ()
    """What is added to it, as in `plus=[{loss: nll, coef: 0.2}]`."""


@recipe
def offline(params: OfflineParams) -> Stages:
    """Any preference, rating or ranking loss on your own data; `whet run NAME` of a loss means this with `loss=NAME`.

    whet run offline model=Qwen/Qwen2.5-1.5B-Instruct data=pairs.jsonl loss=dpo plus="[{loss: nll, coef: 0.2}]"
    """
    config = OfflineConfig(
        **params.shared(),
        loss=params.loss,
        coef=params.coef,
        plus=params.plus,
        optim=OptimConfig(lr=1e-5 if params.lora else 5e-7, schedule="linear", warmup=10),
    )
    yield Stage(name=params.loss.name, config=config)
