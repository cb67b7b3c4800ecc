"""GRPO with one length-normalised ratio per response."""

from __future__ import annotations

from whet.recipes import recipe
from whet.recipes.params import OwnReward
from whet.recipes.stage import Stage, Stages
from whet.registry import Choice
from whet.rollout.config import SamplingConfig
from whet.train.config import OnlineConfig, OptimConfig


@recipe
def gspo(params: OwnReward) -> Stages:
    """Sequence ratio and sequence clip (Zheng et al., 2025, arXiv:2507.18071, eq. 5).

    whet run gspo model=Qwen/Qwen2.5-1.5B-Instruct data=train.jsonl reward=my.py:score
    """
    yield Stage(
        name="gspo",
        config=OnlineConfig(
            model=params.learner(),
            data=params.dataset(),
            rewards=params.rewards(),
            sampling=SamplingConfig(max_new_tokens=params.max_new_tokens),
            optim=OptimConfig(lr=1e-5 if params.lora else 1e-6),
            steps=params.steps,
            prompts=params.prompts,
            group=params.group,
            seed=params.seed,
            advantage=Choice("group_zscore"),
            objective=Choice("ppo_clip", {"low": 3e-4, "high": 4e-4}),
            ratio=Choice("sequence"),
            weigh=Choice("sequence_mean"),
            minibatches=4,
        ),
    )
