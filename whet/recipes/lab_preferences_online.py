"""Methods that sample while they learn, and those that go in rounds, on the same prompts and judge: the second table.

Leaves out sums of losses and whatever learns from a dataset alone, but for sDPO and TR-DPO, whose reference moves.
"""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import Field

from whet.config import Config
from whet.data.config import DataConfig
from whet.models.config import ModelConfig
from whet.recipes import recipe
from whet.recipes.online_methods import checked
from whet.recipes.stage import MakeConfig, Stage, Stages
from whet.train.config import OptimConfig, SupervisedConfig

Count = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
WORLD, LONGEST = "chat", 32


class LabPreferencesOnlineParams(Config):
    """What the table may be told."""

    methods: tuple[str, ...] = ()
    """Which ones (online_dpo, xpo, nash_md, spo, sdpo, tr_dpo, spin, dno, …); all by default."""
    rates: tuple[Rate, ...] = (1e-4, 3e-4, 1e-3)
    """Learning rates that each is tuned over."""
    demonstrations: Count = 1500
    """Examples of fine-tuning, which all runs begin from."""
    rounds: Count = 3
    """Rounds of the methods that go in rounds."""
    prompts: Count = 300
    """Prompts of each round; the others see as many in all, or as many pairs."""
    held: Count = 400
    """Held-out pairs on which changes of log-probabilities are measured."""
    batch: Count = 16
    """Pairs per step, or prompts where the policy is asked in every step."""
    judged: Count = 300
    """Held-out prompts on which each run is compared with the model it began from."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Runs side by side, each on one thread; 0: as many as there are processors."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the model that all runs begin with; the runs have seeds of their own."""


@recipe
def lab_preferences_online(params: LabPreferencesOnlineParams) -> Stages:
    """Methods that sample or go in rounds, from one SFT model with one noisy judge on the chat world, beside a coin.

    whet run lab_preferences_online
    """
    methods = checked(params.methods)
    sft = yield Stage(
        name="sft",
        config=SupervisedConfig(
            model=ModelConfig(path="lab:base"),
            data=DataConfig(path=f"lab:{WORLD}/train", max_rows=params.demonstrations, seed=params.seed),
            optim=OptimConfig(lr=1e-3, schedule="linear", warmup=5),
            batch=64,
            seed=params.seed,
        ),
    )
    data = yield Stage(
        name="feedback",
        config=MakeConfig(
            function="whet.lab.preferences:preferences",
            arguments={
                "model": sft.model,
                "world": WORLD,
                "prompts": params.rounds * params.prompts,
                "answers": 2,
                "held": params.held,
                "tau": 0.8,
                "seed": params.seed,
            },
        ),
    )
    yield Stage(
        name="compare",
        config=MakeConfig(
            function="whet.recipes.online_table:compare",
            arguments={
                "model": sft.model,
                "data": {name: data[name] for name in ("pairs", "pairs_shuffled", "held")},
                "world": WORLD,
                "methods": methods,
                "rates": list(params.rates),
                "batch": params.batch,
                "rounds": params.rounds,
                "prompts": params.prompts,
                "judged": params.judged,
                "max_new_tokens": LONGEST,
                "workers": params.workers or os.cpu_count() or 1,
            },
        ),
    )
