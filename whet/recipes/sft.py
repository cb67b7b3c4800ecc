"""Supervised fine-tuning on your own conversations or prompt/completion rows."""

from __future__ import annotations

from whet.recipes import recipe
from whet.recipes.params import OwnPass
from whet.recipes.stage import Stage, Stages
from whet.train.config import OptimConfig, SupervisedConfig


@recipe
def sft(params: OwnPass) -> Stages:
    """Fit the model to what the assistant wrote (token mean); held-out loss falls.

    whet run sft model=Qwen/Qwen2.5-1.5B data=chats.jsonl
    """
    config = SupervisedConfig(
        **params.shared(),
        optim=OptimConfig(lr=1e-4 if params.lora else 2e-5, schedule="cosine", warmup=10),
    )
    yield Stage(name="sft", config=config)
