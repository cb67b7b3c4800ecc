"""Every method of preference learning on the same noisy feedback: which ones learn, how far they go, and the control.

Leaves out methods that sample while they learn, and those that go in rounds.
"""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import Field

from whet.config import Config
from whet.data.config import DataConfig
from whet.models.config import ModelConfig
from whet.recipes import recipe
from whet.recipes.preference_table import checked
from whet.recipes.stage import MakeConfig, Stage, Stages
from whet.train.config import OptimConfig, SupervisedConfig

Count = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]


class LabPreferencesParams(Config):
    """What the table may be told."""

    methods: tuple[str, ...] = ()
    """Which ones (names of `whet list`); all by default."""
    rates: tuple[Rate, ...] = (1e-4, 3e-4, 1e-3)
    """Learning rates that each is tuned over."""
    demonstrations: Count = 1500
    """Examples of fine-tuning, which all runs begin from."""
    pairs: Count = 2000
    """Prompts with feedback."""
    answers: Annotated[int, Field(ge=2)] = 4
    """Answers to each: all are ranked, the first two are the pair."""
    tau: Rate = 0.8
    """The annotator's noise: it prefers a to b with probability σ((gold_a − gold_b) / tau)."""
    held: Count = 400
    """Held-out pairs on which changes of log-probabilities are measured."""
    batch: Count = 16
    """Pairs, answers or rankings per step."""
    prompts: Count = 300
    """Held-out prompts on which each run is compared with the model it began from."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Runs side by side, each on one thread; 0: as many as there are processors."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the data and of the model that all runs begin with; the runs have seeds of their own."""


@recipe
def lab_preferences(params: LabPreferencesParams) -> Stages:
    """Every method of preference learning on the same noisy pairs of the chat world, from one SFT model, beside chance.

    whet run lab_preferences
    """
    methods = checked(params.methods)
    sft = yield Stage(
        name="sft",
        config=SupervisedConfig(
            model=ModelConfig(path="lab:base"),
            data=DataConfig(path="lab:chat/train", max_rows=params.demonstrations, seed=params.seed),
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
                "world": "chat",
                "prompts": params.pairs,
                "answers": params.answers,
                "held": params.held,
                "tau": params.tau,
                "seed": params.seed,
            },
        ),
    )
    files = ("pairs", "rankings", "pairs_shuffled", "rankings_shuffled", "held")
    yield Stage(
        name="compare",
        config=MakeConfig(
            function="whet.recipes.preference_table:compare",
            arguments={
                "model": sft.model,
                "data": {name: data[name] for name in files},
                "world": "chat",
                "methods": methods,
                "rates": list(params.rates),
                "batch": params.batch,
                "prompts": params.prompts,
                "max_new_tokens": 32,
                "workers": params.workers or os.cpu_count() or 1,
            },
        ),
    )
