"""A process reward model from labelled solution steps."""

from __future__ import annotations

from whet.recipes import recipe
from whet.recipes.params import OwnPass
from whet.recipes.stage import Stage, Stages
from whet.registry import Choice
from whet.train.config import OptimConfig, RewardModelConfig


@recipe
def process_reward(params: OwnPass) -> Stages:
    """Cross-entropy on the label of every step, read at the step's end (Math-Shepherd, arXiv:2312.08935, eq. 2).

    whet run process_reward model=Qwen/Qwen2.5-Math-1.5B data=steps.jsonl
    """
    config = RewardModelConfig(
        **params.shared(),
        loss=Choice("process"),
        optim=OptimConfig(lr=1e-4 if params.lora else 2e-6, schedule="cosine", warmup=10),
    )
    yield Stage(name="process_reward", config=config)
