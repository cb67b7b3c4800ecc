"""A whole recipe as one trial: its stages one after another in a folder, without a table, a report or a display."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from whet.build.loops import prepare, quiet_libraries
from whet.config import load
from whet.recipes import recipe
from whet.recipes.stage import MakeConfig, Result, Stage, Stages, maker
from whet.rundir import RunDir
from whet.train.config import LoopConfig

Alter = Callable[[LoopConfig], LoopConfig]


@dataclass(slots=True)
class Heard:
    """A display that keeps what it is told."""

    lines: list[str] = field(default_factory=list[str])

    def say(self, text: str) -> None:
        self.lines.append(text)


def stages_of(name: str, given: Mapping[str, Any]) -> Stages:
    """The stages of a recipe with these parameters."""
    function = recipe.get(name)
    return function(load(get_type_hints(function)["params"], defaults={f"recipe {name}": dict(given)}).value)


def train(folder: Path, stages: Stages, *, alter: Alter) -> tuple[str, list[str]]:
    """Run every stage, its loop's configuration altered; the last model's folder, and what the stages said."""
    quiet_libraries()
    heard, model, number, result = Heard(), "", 0, None
    while True:
        try:
            stage = next(stages) if result is None else stages.send(result)
        except StopIteration:
            return model, heard.lines
        number += 1
        result = _finished(folder / f"{number:02d}-{stage.name}", stage, alter, heard)
        model = result.values.get("model", model)


def _finished(place: Path, stage: Stage, alter: Alter, heard: Heard) -> Result:
    config = stage.config if isinstance(stage.config, MakeConfig) else alter(stage.config)
    with RunDir.create(place, config.model_dump(mode="json"), origins={}, environment={}) as run:
        if isinstance(config, MakeConfig):
            found = maker(config, live=heard, objects={})(place)
        else:
            job = prepare(config, run)
            with job.session:
                job.work()
            found = job.finish()
    files = {name: str(place / path) for name, path in found.get("files", {}).items()}
    return Result(stage=stage.name, values={**found.get("numbers", {}), **files})
