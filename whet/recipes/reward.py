"""A reward model from your own comparisons."""

from __future__ import annotations

from whet.recipes import recipe
from whet.recipes.params import OwnPass
from whet.recipes.stage import Stage, Stages
from whet.train.config import OptimConfig, RewardModelConfig


@recipe
def reward(params: OwnPass) -> Stages:
    """Bradley–Terry on chosen/rejected rows, or all pairs of ranked responses (InstructGPT, arXiv:2203.02155, eq. 1).

    whet run reward model=Qwen/Qwen2.5-1.5B-Instruct data=pairs.jsonl
    """
    config = RewardModelConfig(
        **params.shared(),
        optim=OptimConfig(lr=1e-4 if params.lora else 9e-6, schedule="cosine", warmup=10),
    )
    yield Stage(name="reward", config=config)
