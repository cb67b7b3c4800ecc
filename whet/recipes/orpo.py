"""Odds-ratio preference optimisation on your own pairs: no reference model."""

from __future__ import annotations

from whet.recipes import recipe
from whet.recipes.params import OwnPass
from whet.recipes.stage import Stage, Stages
from whet.registry import Choice
from whet.train.config import OfflineConfig, OptimConfig


@recipe
def orpo(params: OwnPass) -> Stages:
    """Likelihood of the chosen answer plus an odds-ratio term (Hong et al., 2024, arXiv:2403.07691, eq. 6).

    whet run orpo model=Qwen/Qwen2.5-1.5B data=pairs.jsonl
    """
    config = OfflineConfig(
        **params.shared(),
        loss=Choice("orpo"),
        optim=OptimConfig(lr=1e-5 if params.lora else 8e-6, schedule="linear", warmup=10),
    )
    yield Stage(name="orpo", config=config)
