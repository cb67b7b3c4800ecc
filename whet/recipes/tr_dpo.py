"""TR-DPO: DPO whose reference follows the policy."""

from __future__ import annotations

from whet.recipes import recipe
from whet.recipes.params import OwnPass
from whet.recipes.stage import Stage, Stages
from whet.registry import Choice
from whet.train.config import OfflineConfig, OptimConfig, ReferenceUpdateConfig


@recipe
def tr_dpo(params: OwnPass) -> Stages:
    """DPO with ref ← 0.6 π + 0.4 ref every 512 steps (Gorbatovski et al., 2024, arXiv:2404.09656).

    whet run tr_dpo model=Qwen/Qwen2.5-1.5B-Instruct data=pairs.jsonl
    """
    config = OfflineConfig(
        **params.shared(),
        loss=Choice("dpo", {"beta": 0.05}),
        optim=OptimConfig(lr=1e-6, schedule="linear", warmup=10),
        reference_update=ReferenceUpdateConfig(every=512, mix=0.6),
    )
    yield Stage(name="tr_dpo", config=config)
