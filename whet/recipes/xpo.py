"""XPO: online DPO against the reference, with optimism."""

from __future__ import annotations

from whet.recipes import recipe
from whet.recipes.params import OwnJudge
from whet.recipes.stage import Stage, Stages
from whet.registry import Choice
from whet.train.config import OfflineConfig, OpponentsConfig


@recipe
def xpo(params: OwnJudge) -> Stages:
    """DPO on one own and one answer of the reference, plus α log π of the latter (Xie et al., 2024, arXiv:2405.21046).

    whet run xpo model=Qwen/Qwen2.5-1.5B-Instruct data=train.jsonl prefer=my.py:prefer
    """
    config = OfflineConfig(
        **params.shared(),
        loss=Choice("xpo", {"beta": 0.1, "alpha": 1e-5}),
        source=params.source(
            select=Choice("first_two"),
            opponents=OpponentsConfig(count=1, sampler="reference"),
        ),
    )
    yield Stage(name="xpo", config=config)
