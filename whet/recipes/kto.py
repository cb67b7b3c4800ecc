"""Kahneman–Tversky optimisation on your own thumbs up and down."""

from __future__ import annotations

from whet.recipes import recipe
from whet.recipes.params import OwnPass
from whet.recipes.stage import Stage, Stages
from whet.registry import Choice
from whet.train.config import OfflineConfig, OptimConfig


@recipe
def kto(params: OwnPass) -> Stages:
    """Unpaired good and bad answers against a KL reference point (Ethayarajh et al., 2024, arXiv:2402.01306, eq. 8).

    whet run kto model=Qwen/Qwen2.5-1.5B-Instruct data=labelled.jsonl
    """
    config = OfflineConfig(
        **params.shared(),
        loss=Choice("kto"),
        optim=OptimConfig(lr=1e-5 if params.lora else 5e-7, schedule="linear", warmup=10),
    )
    yield Stage(name="kto", config=config)
