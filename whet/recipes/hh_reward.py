"""A reward model of real human preferences, beside shuffled labels and length alone."""

from __future__ import annotations

from whet.recipes import recipe
from whet.recipes.real_params import Count, Dialogues, Rate, make
from whet.recipes.stage import Stage, Stages
from whet.train.config import EvalConfig, OptimConfig, RewardModelConfig


class HHRewardParams(Dialogues):
    """What the reward model may be told."""

    epochs: Rate = 1.5
    """Passes over the pairs."""
    batch: Count = 32
    """Pairs per step."""
    lr: Rate = 3e-4
    """Peak learning rate."""


@recipe
def hh_reward(params: HHRewardParams) -> Stages:
    """Bradley–Terry on one base subset of HH-RLHF: held-out accuracy above the same training on shuffled labels.

    whet run hh_reward folder=../shared/data subset=harmless-base

    Reached, mean of three seeds: harmless-base 61.2 % (shuffled labels 48.9 %, length alone 55.4 %) and helpful-base
    62.4 % (shuffled labels 42.9 %, length alone 59.7 %).
    """
    pairs = yield Stage(name="pairs", config=params.pairs(), seconds=15)

    def fitted(file: str) -> RewardModelConfig:
        return RewardModelConfig(
            model=params.storyteller(),
            data=params.read(pairs[file]),
            optim=OptimConfig(lr=params.lr, schedule="linear", warmup=10),
            eval=EvalConfig(rows=1000, data=params.read(pairs["held"])),
            batch=params.batch,
            epochs=params.epochs,
            seed=params.seed,
        )

    reward = yield Stage(name="reward", config=fitted("train"), seconds=60)
    control = yield Stage(name="control", config=fitted("shuffled"), seconds=60)
    rows = [
        {"stage": "length alone", "accuracy": pairs["length_accuracy"]},
        {"stage": "shuffled labels", "accuracy": control["accuracy"], "seconds": control["seconds"]},
        {"stage": "reward model", "accuracy": reward["accuracy"], "seconds": reward["seconds"]},
    ]
    yield Stage(name="table", config=make("table", rows=rows), seconds=1)
