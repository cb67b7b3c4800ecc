"""Token-level direct preference optimisation on your own pairs."""

from __future__ import annotations

from whet.recipes import recipe
from whet.recipes.params import OwnPass
from whet.recipes.stage import Stage, Stages
from whet.registry import Choice
from whet.train.config import OfflineConfig, OptimConfig


@recipe
def tdpo(params: OwnPass) -> Stages:
    """DPO with a forward-KL correction per token, TDPO2 (Zeng et al., 2024, arXiv:2404.11999, eq. 17).

    whet run tdpo model=Qwen/Qwen2.5-1.5B-Instruct data=pairs.jsonl
    """
    config = OfflineConfig(
        **params.shared(),
        loss=Choice("tdpo2"),
        optim=OptimConfig(lr=1e-5 if params.lora else 5e-7, schedule="linear", warmup=10),
    )
    yield Stage(name="tdpo", config=config)
