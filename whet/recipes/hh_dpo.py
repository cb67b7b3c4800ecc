"""DPO on real human preferences, beside shuffled labels and length alone."""

from __future__ import annotations

from whet.recipes import recipe
from whet.recipes.real_params import Count, Dialogues, Rate, make
from whet.recipes.stage import Stage, Stages
from whet.registry import Choice
from whet.train.config import EvalConfig, OfflineConfig, OptimConfig


class HHDpoParams(Dialogues):
    """What DPO may be told."""

    epochs: Rate = 2.0
    """Passes over the pairs."""
    batch: Count = 32
    """Pairs per step."""
    lr: Rate = 3e-4
    """Peak learning rate."""
    beta: Rate = 0.1
    """Scale of the implicit reward."""


@recipe
def hh_dpo(params: HHDpoParams) -> Stages:
    """DPO on one base subset of HH-RLHF: the implicit reward orders held-out pairs better than with shuffled labels.

    whet run hh_dpo folder=../shared/data subset=helpful-base

    Reached, mean of three seeds: harmless-base 61.2 % (shuffled labels 48.0 %, length alone 55.4 %) and helpful-base
    59.1 % (shuffled labels 46.9 %, length alone 59.7 %, which it does not beat).
    """
    pairs = yield Stage(name="pairs", config=params.pairs(), seconds=15)

    def fitted(file: str) -> OfflineConfig:
        return OfflineConfig(
            model=params.storyteller(),
            data=params.read(pairs[file]),
            loss=Choice("dpo", {"beta": params.beta}),
            optim=OptimConfig(lr=params.lr, schedule="linear", warmup=10),
            eval=EvalConfig(rows=1000, data=params.read(pairs["held"])),
            batch=params.batch,
            epochs=params.epochs,
            seed=params.seed,
        )

    dpo = yield Stage(name="dpo", config=fitted("train"), seconds=100)
    control = yield Stage(name="control", config=fitted("shuffled"), seconds=100)
    rows = [
        {"stage": "length alone", "accuracy": pairs["length_accuracy"]},
        {"stage": "shuffled labels", "accuracy": control["rewards/accuracies"], "seconds": control["seconds"]},
        {"stage": "dpo", "accuracy": dpo["rewards/accuracies"], "seconds": dpo["seconds"]},
    ]
    yield Stage(name="table", config=make("table", rows=rows), seconds=1)
