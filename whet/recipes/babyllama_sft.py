"""A character-level story model, fitted to more stories."""

from __future__ import annotations

from whet.data.config import DataConfig
from whet.recipes import recipe
from whet.recipes.real_params import BABYLLAMA, Count, Rate, RealData, Share, judged, make
from whet.recipes.stage import Stage, Stages
from whet.train.config import OptimConfig, SupervisedConfig


class BabyllamaParams(RealData):
    """What fine-tuning the character model may be told."""

    steps: Count = 80
    """Optimizer steps."""
    batch: Count = 16
    """Pieces of stories per step."""
    lr: Rate = 4e-5
    """Peak learning rate."""
    rows: Count = 2400
    """Stories read."""
    pieces: Count = 256
    """Held-out pieces that the loss is measured on."""
    holdout: Share = 0.05
    """Share of the stories held out."""
    max_length: Count = 256
    """Longest piece in tokens; the context of the model is 256."""


@recipe
def babyllama_sft(params: BabyllamaParams) -> Stages:
    """Continue a pre-trained character model on real stories cut to its context: held-out loss falls.

    whet run babyllama_sft folder=../shared/data

    Reached with three seeds, in nats per character: 0.816 → 0.809, 0.876 → 0.865, 0.870 → 0.857.
    """
    stories = yield Stage(
        name="stories", config=make("stories", data=params.folder, holdout=params.holdout, seed=params.seed), seconds=2
    )

    def read(path: str, rows: int) -> DataConfig:
        return DataConfig(path=path, max_rows=rows, max_length=params.max_length, overlong="split", seed=params.seed)

    start = params.storyteller(BABYLLAMA)
    sft = yield Stage(
        name="sft",
        config=SupervisedConfig(
            model=start,
            data=read(stories["train"], params.rows),
            optim=OptimConfig(lr=params.lr, schedule="cosine", warmup=5),
            batch=params.batch,
            steps=params.steps,
            seed=params.seed,
        ),
        seconds=120,
    )
    models = [
        {"stage": "before", "model": start.model_dump(mode="json")},
        {"stage": "sft", "model": {"path": sft.model}, "seconds": sft["seconds"]},
    ]
    arguments = {
        "models": models,
        "held": stories["held"],
        "max_length": params.max_length,
        "rows": params.pieces,
        "seed": params.seed,
    }
    yield Stage(name="loss", config=judged("losses", **arguments), seconds=15)
