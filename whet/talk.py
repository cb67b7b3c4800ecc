"""`whet chat`: models side by side on the console."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from whet.build.check import check_model
from whet.config import load
from whet.errors import ConfigError
from whet.eval.chat import Side
from whet.models.config import ModelConfig
from whet.rollout.config import SamplingConfig
from whet.rundir import RunDir


def talk(models: Sequence[str], *, temperature: float, max_new_tokens: int, seed: int) -> None:
    """Load every model (a run gives two: where it started and what it became) and talk until /quit."""
    given = {"temperature": temperature, "max_new_tokens": max_new_tokens}
    sampling = load(SamplingConfig, overrides=given).value
    named = [pair for name in models for pair in before_and_after(name)]
    for _, folder in named:
        check_model(folder)
    from whet.build.loops import quiet_libraries
    from whet.eval.chat import chat

    quiet_libraries()
    chat([_side(name, folder, sampling, seed) for name, folder in named], seed=seed)


def before_and_after(name: str) -> list[tuple[str, str]]:
    """(name, folder) of a model, or of a run's start and end."""
    folder = Path(name)
    if not (folder / "stages").is_dir():
        return [(folder.name or name, name)]
    from whet.launch import Run

    after = Run(folder).model
    config = RunDir.open(after.parent).config
    start = config.get("model", {}).get("path")
    if start is None:
        raise ConfigError(f"{after.parent} does not say which model it began with; name the two model folders instead")
    return [(f"before ({Path(str(start)).name})", str(start)), (f"after ({folder.name})", str(after))]


def _side(name: str, folder: str, sampling: SamplingConfig, seed: int) -> Side:
    from whet.build import models
    from whet.rollout.torch_engine import engine_of

    policy = models.policy(ModelConfig(path=folder), seed=seed)
    engine, renderer = engine_of(policy, sampling)
    context = renderer.context or 4096
    room = context - sampling.max_new_tokens
    if room < 1:
        raise ConfigError(
            f"--max-new-tokens is {sampling.max_new_tokens}, but {folder} reads {context} tokens, question and answer "
            "together; give less"
        )
    return Side(name=name, engine=engine, render=renderer.prompt, context=room, plain=not renderer.chats)
