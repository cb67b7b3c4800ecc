"""`whet eval`: a model, a dataset and a reward → a table with intervals, and JSON. Imports torch only when it runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from whet.build.check import check_data, check_model, check_reward
from whet.config import Config, load
from whet.data.config import DataConfig
from whet.errors import ConfigError
from whet.models.config import ModelConfig
from whet.rewards.config import RewardConfig
from whet.rollout.config import SamplingConfig


class MeasureConfig(Config):
    """What `whet eval` takes as KEY=VALUE."""

    data: str
    """Prompts: a file, a hub name, or a lab world such as lab:math/test."""
    reward: str
    """What scores the answers: my.py:score, a built-in's name, model:FOLDER, or lab:WORLD."""
    k: Annotated[int, Field(gt=0)] = 8
    """Answers per prompt."""
    n: Annotated[int, Field(gt=0)] | None = None
    """Use no more prompts than this."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Sampling temperature."""
    max_new_tokens: Annotated[int, Field(gt=0)] = 256
    """Longest answer in tokens."""
    seed: int = 0
    """The same seed asks the same draws, so that models are compared on common noise."""
    out: str | None = None
    """Also write every number and answer to this file."""


def measure_command(model: str, settings: Sequence[str]) -> None:
    """Parse the settings, measure, print."""
    config = load(MeasureConfig, overrides=settings, name="whet eval").value
    print_measured(model, config)


def print_measured(model: str, config: MeasureConfig) -> None:
    """Sample, score, and print the table; `config.out` also gets it."""
    from rich.console import Console

    from whet.report.table import Column, Table, cell

    out = Path(config.out) if config.out is not None else None
    if out is not None and not out.parent.is_dir():
        raise ConfigError(f"out={out} cannot be written: there is no folder {str(out.parent)!r}; make it first")
    evaluation = measured(model, config)
    columns = (Column(key="metric", title=model, format="text"), Column(key="shown", title="value", format="text"))
    rows = tuple({**row, "shown": cell(row, _form(row["metric"]))} for row in evaluation.table())
    console = Console(highlight=False)
    console.print(Table(columns=columns, rows=rows).rich())
    unscored = f", {evaluation.unscored} of them without a score" if evaluation.unscored else ""
    console.print(
        f"\n{len(evaluation.groups)} prompts, {config.k} answers each{unscored}; 95 % intervals over prompts",
        style="dim",
    )
    if out is not None:
        out.write_text(json.dumps(evaluation.json(), indent=1) + "\n")
        console.print(f"every answer and number: {out}", style="dim", soft_wrap=True)


def _form(metric: str) -> str:
    """How a number of the table is written: shares as percents."""
    return "percent" if metric.startswith("pass@") or metric == "truncated" else ".3f"


def measured(model: str, config: MeasureConfig) -> Any:
    """The evaluation itself (`whet.eval.evaluate.Evaluation`)."""
    where = DataConfig(path=config.data, max_rows=config.n, seed=config.seed)
    judge = RewardConfig(function=config.reward)
    check_model(model)
    check_data(where, {})
    check_reward(judge, {})
    from whet.build import data, models
    from whet.build.loops import quiet_libraries
    from whet.build.rewards import build_rewards
    from whet.eval.evaluate import evaluate
    from whet.rollout.torch_engine import TorchEngine

    quiet_libraries()
    policy = models.policy(ModelConfig(path=model), seed=config.seed)
    renderer = data.renderer_of(policy)
    found, _ = data.tasks(where, policy, {}, lambda report: None)
    sampling = SamplingConfig(temperature=config.temperature, max_new_tokens=config.max_new_tokens)
    reward = build_rewards([judge], {}, seed=config.seed, budget=16384, policy=policy)
    reward.check(found)
    engine = TorchEngine(policy, sampling, renderer.stop_ids)
    return evaluate(engine, found[: config.n], renderer.prompt, reward, k=config.k, seed=config.seed)
