"""A recipe's name or a YAML file, with overrides → the stages that will run. Imports no torch and no model.

Overrides address the recipe's parameters (`steps=50`) or a stage's configuration (`grpo.optim.lr=1e-4`); a recipe with
one stage also takes the stage's own keys (`optim.lr=1e-4`). Every problem is reported at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from whet.annotations import model_of
from whet.config import Config, Loaded, contents, keys_of, load
from whet.errors import ConfigError
from whet.recipes import recipe
from whet.recipes.stage import MakeConfig, Result, Stage, Stages, symbolic
from whet.train.config import LoopConfig, OfflineConfig, OnlineConfig, RewardModelConfig, SupervisedConfig
from whet.tree import Node, flow, plain, read_yaml
from whet.words import listed, nearest

LOOPS: Mapping[str, type[LoopConfig]] = {
    model.model_fields["loop"].default: model
    for model in (SupervisedConfig, RewardModelConfig, OfflineConfig, OnlineConfig)
}
"""What a file's key `loop` may say."""

RECIPE_KEYS = ("recipe", "params", "overrides")
"""The keys of a recipe's file."""

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
    if target in recipe.names():
        return of_recipe(target, overrides)
    if path.is_dir():
        there = f" such as {path / 'config.yaml'}" if (path / "config.yaml").is_file() else ""
        raise ConfigError(f"{path} is a folder; give a recipe's name (whet list recipe) or a YAML file{there}")
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return _of_file(path, overrides)
    return of_recipe(target, overrides)


def of_recipe(name: str, overrides: Overrides = (), *, file: Path | None = None, given: Node | None = None) -> Plan:
    """A recipe with its parameters; every override finds its place or is an error, all of them at once."""
    function = recipe.get(name)
    params_type: type[Config] = get_type_hints(function)["params"]
    mine, rest = _split(overrides, params_type)
    defaults = {f"file {file}": given} if given else None
    problems: list[str] = []
    try:
        params = load(params_type, defaults=defaults, overrides=mine, name=f"recipe {name}")
    except ConfigError as error:
        problems += error.problems
        params = load(params_type, overrides=placeholders(params_type))

    def generate() -> Stages:
        return function(params.value)

    stages = list(unrolled(generate))
    placed = _by_stage(rest, stages, name, params_type, problems)
    made = Plan(name=name, params=params, generate=generate, overrides=placed, file=file)
    for stage in stages:
        try:
            made.loaded(stage)
        except ConfigError as error:
            problems += [f"stage {stage.name}: {text}" if len(stages) > 1 else text for text in error.problems]
    if problems:
        raise ConfigError(*problems)
    return made


def placeholders(params_type: type[Config], given: Sequence[str] = ()) -> list[str]:
    """`given`, and KEY=KEY in capitals for every other parameter that must be given."""
    there = {text.partition("=")[0] for text in given}
    missing = [key for key, field in params_type.model_fields.items() if field.is_required() and key not in there]
    return [*given, *(f"{key}={key.upper()}" for key in missing)]


def _of_file(path: Path, overrides: Overrides) -> Plan:
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; give a recipe's name (whet list) or a YAML file that is there")
    problems: list[str] = []
    head = read_yaml(contents(path), name=str(path), problems=problems)
    if head.child("recipe"):
        return _of_recipe_file(path, head, overrides, problems)
    node = head.child("loop")
    if node is None:
        near = "".join(f" ({key}{close}" for key in head.value if (close := nearest(str(key), ["loop", "recipe"])))
        near = near.replace(" (did", ": did")
        raise ConfigError(
            f"{path} names neither a loop nor a recipe{near}; begin it with `loop: NAME`, of {listed(list(LOOPS))}, "
            "or with `recipe: NAME` (whet recipe show NAME --stage STAGE writes such a file)"
        )
    if node.value not in LOOPS:
        raise ConfigError(
            f"{node.place}: loop is {node.value!r}{nearest(str(node.value), LOOPS)}; a loop's file names one of "
            f"{listed(list(LOOPS))}"
        )
    loop = str(node.value)
    loaded = load(LOOPS[loop], file=path, overrides=overrides)

    def generate() -> Stages:
        yield Stage(name=loop, config=loaded.value)

    return Plan(name=path.stem, params=Loaded(value=Config(), origins={}), generate=generate, file=path)


def _of_recipe_file(path: Path, head: Node, overrides: Overrides, problems: list[str]) -> Plan:
    """A file with a recipe's name, its parameters, and overrides of its stages, as a run folder keeps it."""
    for key, node in head.children():
        if key not in RECIPE_KEYS:
            near = nearest(str(key), RECIPE_KEYS)
            problems.append(f"{node.key_place}: {key}: there is no such key{near}; allowed here: {listed(RECIPE_KEYS)}")
    named = head.child("recipe")
    assert named is not None
    if named.value not in recipe.names():
        known = recipe.names()
        problems.append(
            f"{named.place}: no recipe is called {named.value!r}{nearest(str(named.value), known)}; there are: "
            f"{listed(known)}"
        )
    if problems:
        raise ConfigError(*problems)
    saved = head.child("overrides")
    return of_recipe(
        str(named.value),
        _joined(saved, overrides) if saved else overrides,
        file=path,
        given=head.child("params"),
    )


def _joined(saved: Node, given: Overrides) -> Overrides:
    """The overrides of a file under those given now."""
    flat = {f"{stage}.{key}": plain(node) for stage, keys in saved.children() for key, node in keys.children()}
    if isinstance(given, Mapping):
        return {**flat, **given}
    again = {text.partition("=")[0].strip() for text in given}
    return [*(f"{key}={flow(value)}" for key, value in flat.items() if key not in again), *given]


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


def _by_stage(
    rest: Overrides, stages: Sequence[Stage], name: str, params_type: type[Config], problems: list[str]
) -> dict[str, Overrides]:
    """Overrides by stage; with a single stage its own keys need no prefix."""
    names = [stage.name for stage in stages]
    items = list(rest.items()) if isinstance(rest, Mapping) else [(text.partition("=")[0], text) for text in rest]
    out: dict[str, list[tuple[str, Any]]] = {}
    for key, value in items:
        root, _, inner = key.strip().partition(".")
        if root in names and inner:
            out.setdefault(root, []).append((inner, value))
        elif len(stages) == 1 and root in type(stages[0].config).model_fields:
            out.setdefault(names[0], []).append((key, value))
        else:
            problems.append(_unplaced(key, name, stages, params_type))
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
