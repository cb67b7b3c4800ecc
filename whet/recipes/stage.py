"""What a recipe yields, and what it is told of each finished stage."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from whet.config import Config
from whet.errors import ConfigError
from whet.train.config import LoopConfig


class MakeConfig(Config):
    """A stage that makes an artefact by calling a function `f(folder, **arguments) → results`."""

    loop: Literal["make"] = "make"
    """Which kind of stage this is."""
    function: str
    """Import path, `package.module:name`."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """What it is given, beside the stage's folder."""


def maker(config: MakeConfig, *, live: Any, objects: Mapping[str, Any]) -> Callable[[Path], dict[str, Any]]:
    """The function of such a stage with its arguments; what was given from Python goes to those that ask for `objects`.

    A function that is not there is a `ConfigError`.
    """
    module, _, name = config.function.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"the stage's function {config.function!r} cannot be found: {error}; give package.module:name"
        ) from error
    given = {"objects": objects} if "objects" in inspect.signature(function).parameters else {}
    return partial(function, live=live, **given, **config.arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One named step of a recipe: a loop's configuration, or a function that makes something."""

    name: str
    config: LoopConfig | MakeConfig
    seconds: float | None = None
    """What it is expected to take, for the progress display."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a finished stage left: its model folder, and named results (paths and numbers).

    Before a stage has run, its values read `${stage.field}`; that is what `whet recipe show` prints.

    >>> symbolic("sft").model, symbolic("pairs")["train"]
    ('${sft.model}', '${pairs.train}')
    """

    stage: str
    values: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] | None = None
    """The whole table of the run, where the stage made it."""
    known: bool = True

    def __getitem__(self, name: str) -> Any:
        if not self.known:
            return f"${{{self.stage}.{name}}}"
        return self.values[name]

    @property
    def model(self) -> str:
        """The folder of the stage's trained model."""
        return self["model"]


Stages = Generator[Stage, Result, None]


def symbolic(stage: str) -> Result:
    """The result of a stage that has not run."""
    return Result(stage=stage, known=False)
