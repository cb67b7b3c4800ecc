"""Direct preference optimisation on your own pairs."""

from __future__ import annotations

from whet.recipes import recipe
from whet.recipes.params import OwnPass
from whet.recipes.stage import Stage, Stages
from whet.registry import Choice
from whet.train.config import OfflineConfig, OptimConfig


@recipe
def dpo(params: OwnPass) -> Stages:
    """Direct preference optimisation (Rafailov et al., 2023, arXiv:2305.18290, eq. 7).

    whet run dpo model=Qwen/Qwen2.5-1.5B-Instruct data=pairs.jsonl
    """
    config = OfflineConfig(
        **params.shared(),
        loss=Choice("dpo", {"beta": 0.1}),
        optim=OptimConfig(lr=1e-5 if params.lora else 5e-7, schedule="linear", warmup=10),
    )
    yield Stage(name="dpo", config=config)
