"""Mixed preference optimisation on your own pairs: a sum of three losses over the same forward."""

from __future__ import annotations

from whet.recipes import recipe
from whet.recipes.params import OwnPass
from whet.recipes.stage import Stage, Stages
from whet.registry import Choice
from whet.train.config import OfflineConfig, OptimConfig, PlusConfig


@recipe
def mpo(params: OwnPass) -> Stages:
    """Mixed preference optimisation (Wang et al., 2024, arXiv:2411.10442): 0.8 DPO + 0.2 BCO + likelihood of chosen.

    The classifier's term has no running shift: over pairs there is `bco_pair`, over single answers `bco`.

    whet run mpo model=Qwen/Qwen2.5-1.5B-Instruct data=pairs.jsonl
    """
    config = OfflineConfig(
        **params.shared(),
        loss=Choice("dpo", {"beta": 0.1}),
        coef=0.8,
        plus=(PlusConfig(loss=Choice("bco_pair", {"beta": 0.1}), coef=0.2), PlusConfig(loss=Choice("nll"), coef=1.0)),
        optim=OptimConfig(lr=1e-5 if params.lora else 5e-6, schedule="cosine", warmup=10),
    )
    yield Stage(name="mpo", config=config)
