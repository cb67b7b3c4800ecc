"""sDPO: the data in chunks, easy ones first, each learned from against the model of the chunk before."""

from __future__ import annotations

from typing import Any

from whet.recipes import recipe
from whet.recipes.rounds import Count, Learned, Rate
from whet.recipes.stage import MakeConfig, Stage, Stages
from whet.registry import Choice


class SdpoParams(Learned):
    """What sDPO may be told."""

    chunks: Count = 2
    """How many."""
    by: str = "model"
    """What makes a pair easy: a margin of log-probabilities of the model that is begun with (model), a column whose
    large numbers are easy (as in by=margin), or its place in the data (given)."""
    beta: Rate = 0.1
    """DPO's."""


@recipe
def sdpo(params: SdpoParams) -> Stages:
    """Stepwise DPO: each chunk's reference is the model of the chunk before (Kim et al., 2024, arXiv:2403.19270).

    whet run sdpo model=Qwen/Qwen2.5-1.5B-Instruct data=pairs.jsonl
    """
    arguments: dict[str, Any] = {
        "model": params.model,
        "data": params.dataset(holdout=0).model_dump(mode="json"),
        "chunks": params.chunks,
        "by": params.by,
        "seed": params.seed,
    }
    made = yield Stage(name="chunks", config=MakeConfig(function="whet.build.chunks:chunks", arguments=arguments))
    model = params.model
    for number in range(1, params.chunks + 1):
        chunk = made[f"chunk_{number}"]
        learned = yield params.learn(f"step_{number}", model, chunk, Choice("dpo", {"beta": params.beta}))
        model = learned.model
