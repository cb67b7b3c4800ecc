"""Whet's side of the quality row: the very loop that `whet run` runs, in a run folder, with all it writes."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.quality_job import REWARDS, Job, Stopwatch, train_rows


class Enough(Exception):
    """The stopwatch has seen what it wanted."""


def config_of(job: Job, start: Path) -> Any:
    """The loop's configuration; standard deviation and epsilon of the advantage are TRL's."""
    from whet.data.config import DataConfig
    from whet.models.config import ModelConfig
    from whet.registry import Choice
    from whet.rewards.config import RewardConfig
    from whet.rollout.config import SamplingConfig
    from whet.train.config import OnlineConfig, OptimConfig

    return OnlineConfig(
        model=ModelConfig(path=str(start), dtype="float32", device="cpu"),
        data=DataConfig(path="code:rows"),
        rewards=(RewardConfig(function="code:reward"),),
        sampling=SamplingConfig(max_new_tokens=job.limit, slots=job.prompts * job.group),
        optim=OptimConfig(lr=job.rate, clip=job.clip),
        steps=job.most + 1,
        prompts=job.prompts,
        group=job.group,
        advantage=Choice("group_zscore", {"ddof": 1, "eps": 1e-4}),
        seed=job.seed,
    )


def learn(job: Job, start: Path, watch: Stopwatch) -> dict[str, Any]:
    """Train until the stopwatch has seen enough; the weights as they are then."""
    import torch

    from whet.build.loops import prepare, quiet_libraries
    from whet.rundir import RunDir, describe_environment

    quiet_libraries()
    config = config_of(job, start)
    environment = describe_environment(threads=torch.get_num_threads())
    given = {"code:rows": train_rows(), "code:reward": REWARDS[job.reward]}
    with tempfile.TemporaryDirectory() as folder:
        kept = config.model_dump(mode="json")
        with RunDir.create(Path(folder) / "run", kept, origins={}, environment=environment) as run:
            watcher = _Timed(watch)
            ready = prepare(config, run, watchers=[watcher], objects=given)
            watcher.session = ready.session
            try:
                with ready.session:
                    ready.work()
            except Enough:
                return watcher.weights()
    raise AssertionError("the loop is longer than the stopwatch looks")


class _Timed:
    """A watcher of the run that tells the stopwatch of each step and ends the loop when that has seen enough."""

    session: Any = None

    def __init__(self, watch: Stopwatch) -> None:
        self._watch = watch

    def begin(self, total: int) -> None:
        self._watch.begin()

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        if self._watch.step(self.weights):
            raise Enough

    def weights(self) -> dict[str, Any]:
        return self.session.parts["policy"].model.hf.state_dict()
