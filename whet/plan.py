"""A recipe's name or a YAML file, with overrides → the stages that will run. Imports no torch and no model.

Overrides address the recipe's parameters (`steps=50`) or a stage's configuration (`grpo.optim.lr=1e-4`); a recipe with
one stage also takes the stage's own keys (`optim.lr=1e-4`). Every problem is reported at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from whet.annotations import model_of
from whet.config import Config, Loaded, keys_of, load
from whet.errors import ConfigError
from whet.recipes import recipe
from whet.recipes.stage import MakeConfig, Result, Stage, Stages, symbolic
from whet.train.config import LoopConfig, OfflineConfig, OnlineConfig, RewardModelConfig, SupervisedConfig
from whet.words import listed, nearest

LOOPS: Mapping[str, type[LoopConfig]] = {
    "supervised": SupervisedConfig,
    "reward_model": RewardModelConfig,
    "offline": OfflineConfig,
    "online": OnlineConfig,
}

Overrides = Sequence[str] | Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will run: a generator of stages, its parameters, and the overrides of each stage."""

    name: str
    params: Loaded[Any]
    generate: Callable[[], Stages]
    overrides: Mapping[str, Overrides] = field(default_factory=dict)
    file: Path | None = None

    def loaded(self, stage: Stage) -> Loaded[Any]:
        """A stage's configuration with its overrides laid over it."""
        origin = f"recipe {self.name}" if self.file is None else f"file {self.file}"
        if isinstance(stage.config, MakeConfig) and not self.overrides.get(stage.name):
            return Loaded(value=stage.config, origins={})
        return load(type(stage.config), defaults={origin: stage.config}, overrides=self.overrides.get(stage.name, ()))

    def preview(self) -> list[tuple[Stage, Loaded[Any]]]:
        """Every stage with its configuration, what later stages get from earlier ones written `${stage.field}`."""
        return [(stage, self.loaded(stage)) for stage in unrolled(self.generate)]


def unrolled(generate: Callable[[], Stages]) -> Iterator[Stage]:
    """The stages of a recipe that has not run."""
    stages = generate()
    result: Result | None = None
    while True:
        try:
            stage = next(stages) if result is None else stages.send(result)
        except StopIteration:
            return
        yield stage
        result = symbolic(stage.name)


def plan(target: str, overrides: Overrides = ()) -> Plan:
    """The plan of a recipe's name, or of a YAML file with `loop:` (one loop) or `recipe:` (a recipe's parameters)."""
    path = Path(target)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return _of_file(path, overrides)
    return of_recipe(target, overrides)


def of_recipe(name: str, overrides: Overrides = (), *, file: Path | None = None, given: Any = None) -> Plan:
    """A recipe with its parameters; every override finds its place or is an error."""
    function = recipe.get(name)
    params_type: type[Config] = get_type_hints(function)["params"]
    mine, rest = _split(overrides, params_type)
    defaults = {f"file {file}": given} if given else None
    params = load(params_type, defaults=defaults, overrides=mine)

    def generate() -> Stages:
        return function(params.value)

    stages = list(unrolled(generate))
    made = Plan(
        name=name,
        params=params,
        generate=generate,
        overrides=_by_stage(rest, stages, name, params_type),
        file=file,
    )
    made.preview()
    return made


def _of_file(path: Path, overrides: Overrides) -> Plan:
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; give a recipe's name (whet list) or a YAML file that is there")
    try:
        head = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(head, dict):
        raise ConfigError(f"{path} must hold a mapping with the key loop ({listed(list(LOOPS))}) or recipe")
    if "recipe" in head:
        return of_recipe(
            str(head["recipe"]),
            _joined(head.get("overrides", {}), overrides),
            file=path,
            given=head.get("params", {}),
        )
    loop = str(head.get("loop"))
    if loop not in LOOPS:
        raise ConfigError(
            f"{path}: loop is {loop!r}{nearest(str(loop), LOOPS)}; a loop's file names one of {listed(list(LOOPS))}"
        )
    loaded = load(LOOPS[loop], file=path, overrides=overrides)

    def generate() -> Stages:
        yield Stage(name=str(loop), config=loaded.value)

    return Plan(name=path.stem, params=Loaded(value=Config(), origins={}), generate=generate, file=path)


def _joined(saved: Mapping[str, Any], given: Overrides) -> Overrides:
    flat = {f"{stage}.{key}": value for stage, keys in saved.items() for key, value in dict(keys).items()}
    if not flat:
        return given
    if not isinstance(given, Mapping):
        pairs = [text.partition("=") for text in given]
        return [*(f"{key}={_text(value)}" for key, value in flat.items() if key not in {p[0] for p in pairs}), *given]
    return {**flat, **given}


def _text(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()


def _split(overrides: Overrides, params_type: type[Config]) -> tuple[Overrides, Overrides]:
    """The overrides of the recipe's own parameters, and the rest (`data.holdout` is a stage's: `data` is a text)."""

    def mine(key: str) -> bool:
        root, dot, _ = key.strip().partition(".")
        field = params_type.model_fields.get(root)
        return field is not None and (not dot or model_of(field.rebuild_annotation()) is not None)

    if isinstance(overrides, Mapping):
        own = {key: value for key, value in overrides.items() if mine(key)}
        return own, {key: value for key, value in overrides.items() if key not in own}
    first = [text for text in overrides if "=" not in text or mine(text.partition("=")[0])]
    return first, [text for text in overrides if text not in first]


def _by_stage(rest: Overrides, stages: Sequence[Stage], name: str, params_type: type[Config]) -> dict[str, Overrides]:
    """Overrides by stage; with a single stage its own keys need no prefix."""
    names = [stage.name for stage in stages]
    items = list(rest.items()) if isinstance(rest, Mapping) else [(text.partition("=")[0], text) for text in rest]
    out: dict[str, list[tuple[str, Any]]] = {}
    problems: list[str] = []
    for key, value in items:
        root, _, inner = key.strip().partition(".")
        if root in names and inner:
            out.setdefault(root, []).append((inner, value))
        elif len(stages) == 1 and root in type(stages[0].config).model_fields:
            out.setdefault(names[0], []).append((key, value))
        else:
            problems.append(_unplaced(key, name, stages, params_type))
    if problems:
        raise ConfigError("\n  ".join([f"{len(problems)} unknown keys:", *problems] if len(problems) > 1 else problems))
    if isinstance(rest, Mapping):
        return {stage: dict(pairs) for stage, pairs in out.items()}
    return {stage: [f"{key}={text.partition('=')[2]}" for key, text in pairs] for stage, pairs in out.items()}


def _unplaced(key: str, name: str, stages: Sequence[Stage], params_type: type[Config]) -> str:
    mine = list(params_type.model_fields)
    below = [f"{stage.name}.{inner}" for stage in stages for inner in keys_of(type(stage.config))]
    near = nearest(key, mine) or nearest(key, below) or nearest(key.split(".")[-1], mine)
    return (
        f"recipe {name} has no key {key}{near}; its parameters: {listed(mine)}; its stages: "
        f"{listed([stage.name for stage in stages])} (whet recipe show {name} prints all keys)"
    )
