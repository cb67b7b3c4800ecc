"""DAPO's loss: clip-higher and a token mean over the whole step."""

from __future__ import annotations

from whet.recipes import recipe
from whet.recipes.params import OwnReward
from whet.recipes.stage import Stage, Stages
from whet.registry import Choice
from whet.train.config import OnlineConfig


@recipe
def dapo(params: OwnReward) -> Stages:
    """Asymmetric clip and token-level mean (Yu et al., 2025, arXiv:2503.14476, eq. 8); leaves out dynamic sampling.

    whet run dapo model=Qwen/Qwen2.5-1.5B-Instruct data=train.jsonl reward=my.py:score
    """
    config = OnlineConfig(
        **params.shared(),
        advantage=Choice("group_zscore"),
        objective=Choice("ppo_clip", {"low": 0.2, "high": 0.28}),
        weigh=Choice("token_mean"),
        minibatches=2,
    )
    yield Stage(name="dapo", config=config)
