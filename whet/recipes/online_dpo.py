"""Online DPO: the policy answers, a judge compares, DPO learns, in every step."""

from __future__ import annotations

from whet.recipes import recipe
from whet.recipes.params import OwnJudge
from whet.recipes.stage import Stage, Stages
from whet.registry import Choice
from whet.train.config import OfflineConfig


@recipe
def online_dpo(params: OwnJudge) -> Stages:
    """DPO on pairs of the policy's own answers (Guo et al., 2024, arXiv:2402.04792).

    whet run online_dpo model=Qwen/Qwen2.5-1.5B-Instruct data=train.jsonl prefer=my.py:prefer
    """
    config = OfflineConfig(
        **params.shared(),
        loss=Choice("dpo", {"beta": 0.1}),
        source=params.source(select=Choice("first_two" if params.group == 2 else "best_and_worst")),
    )
    yield Stage(name="online_dpo", config=config)
