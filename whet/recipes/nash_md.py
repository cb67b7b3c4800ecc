"""Nash-MD: self-play against a mixture of policy and reference."""

from __future__ import annotations

from whet.recipes import recipe
from whet.recipes.params import OwnJudge
from whet.recipes.stage import Stage, Stages
from whet.registry import Choice
from whet.train.config import OfflineConfig, OpponentsConfig


@recipe
def nash_md(params: OwnJudge) -> Stages:
    """Policy gradient of the wins over a mixture of policy and reference (Munos et al., 2023, arXiv:2312.00886).

    whet run nash_md model=Qwen/Qwen2.5-1.5B-Instruct data=train.jsonl prefer=my.py:prefer
    """
    config = OfflineConfig(
        **params.shared(),
        loss=Choice("nash_md", {"tau": 0.008}),
        source=params.source(opponents=OpponentsConfig(count=params.group // 2, sampler="mixture", mix=0.125)),
    )
    yield Stage(name="nash_md", config=config)
