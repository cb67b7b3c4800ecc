"""A YAML file and `key.sub=value` overrides → a tree of frozen pydantic models, each value with its origin.

This file knows no component: a component owns its models, derived from `Config`. Values are laid over one another in
the order *defaults of the models, recipe, file, command line*; all problems are gathered and raised as one
`ConfigError`, each with its place, what was given, what is allowed and the nearest key.

>>> class Loop(Config):
...     steps: int
...     lr: float = 1e-4
>>> loaded = load(Loop, text="steps: 10", overrides=["lr=3e-5"])
>>> loaded.value.lr, loaded.origins
(3e-05, {'steps': 'file text:1', 'lr': 'command line'})
>>> load(Loop, overrides=["steps=many", "lrr=1"])
Traceback (most recent call last):
    ...
whet.errors.ConfigError: 2 problems in the configuration:
  command line: steps=many: steps: got "many"; it must be an integer
  command line: lrr=1: lrr: there is no such key (did you mean lr?); allowed here: steps, lr
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticSerializationError, PydanticUndefined, to_json

from whet.annotations import (
    Shelves,
    child_annotation,
    choice_of,
    complete,
    fit,
    layer_of,
    model_of,
    paths_of,
    plain_value,
    takes_null,
)
from whet.errors import ConfigError
from whet.members import REQUIRED
from whet.references import resolve_references
from whet.registry import Choice
from whet.tree import (
    Keys,
    Node,
    dotted,
    flow,
    leaves,
    merge,
    nested,
    plain,
    read_override,
    read_yaml,
    tree_of,
    write_yaml,
)
from whet.words import complaint, listed, type_text

__all__ = [
    "Config",
    "Described",
    "Loaded",
    "contents",
    "describe",
    "dump",
    "keys_of",
    "load",
    "resolve_references",
]


class Config(BaseModel):
    """The base of every component's configuration: frozen, no unknown keys, no coercion, docs under the fields.

    An integer is a number; otherwise true is no number, "1" is no number, and infinity and NaN are refused.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


T = TypeVar("T", bound=Config)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded(Generic[T]):
    """A configuration with the origin of each value: dotted key → "default", "recipe NAME", "file NAME:LINE",
    "command line" or "Python"."""

    value: T
    origins: Mapping[str, str]

    def saved(self) -> dict[str, Any]:
        """The form a run folder keeps: the resolved tree and the origins, as plain JSON values."""
        return {"config": self.value.model_dump(mode="json"), "origins": dict(self.origins)}


def load(
    model_type: type[T],
    *,
    file: str | Path | None = None,
    text: str | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    defaults: Mapping[str, Config | Mapping[str, Any] | Node] | None = None,
    values: Mapping[str, Any] | None = None,
    name: str = "the configuration",
) -> Loaded[T]:
    """A model of `model_type` from its defaults, `defaults` (origin → tree), a file or text, and overrides.

    Overrides are texts of a command line, or a mapping of dotted keys to values (origin "Python"). With `values`,
    references `${stage.field}` are replaced before the values are checked. `name` is the place of what is missing.
    """
    problems: list[str] = []
    layers = [layer_of(tree, origin=name) for name, tree in (defaults or {}).items()]
    if file is not None:
        layers.append(read_yaml(contents(Path(file)), name=str(file), problems=problems))
    if text is not None:
        layers.append(read_yaml(text, name="text", problems=problems))
    fitted = [fit(layer, model_type) for layer in layers]
    fitted += _overrides(model_type, overrides, problems)
    whole = str(file) if file is not None else "text" if text is not None else name
    tree = complete(Node(value={}, origin="default", place=whole), model_type)
    for layer in fitted:
        tree = merge(tree, layer, problems=problems)
    tree = replace(complete(tree, model_type), place=whole)
    if values is not None:
        tree = _refer(tree, values, problems)
    try:
        value = model_type.model_validate_json(to_json(plain(tree), inf_nan_mode="constants"))
    except ValidationError as error:
        raise ConfigError(*problems, *_explained(error, tree, model_type)) from error
    if problems:
        raise ConfigError(*problems)
    return Loaded(value=value, origins=_origins(value, tree))


def dump(loaded: Loaded[Any], *, origins: bool = False) -> str:
    """YAML from which `load` makes an equal model; with `origins`, each value's origin behind it as a comment."""
    tree = loaded.value.model_dump(mode="json")
    return write_yaml(tree, comments=loaded.origins if origins else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A key a user may set: its type in words, its default (None where it must be given), and its documentation."""

    key: str
    type: str
    default: str | None
    doc: str


def describe(model_type: type[BaseModel]) -> list[Described]:
    """Every key of a model and of the sections below it, in the order of the fields; `N` stands for an index.

    >>> class Optim(Config):
    ...     lr: float = 1e-4
    ...     "Peak learning rate."
    >>> describe(Optim)[0].key, describe(Optim)[0].type, describe(Optim)[0].default
    ('lr', 'number', '0.0001')
    """
    return [row for name in model_type.model_fields for row in _rows(model_type, name, (), None)]


def keys_of(model_type: type[BaseModel], value: Node | None = None) -> list[str]:
    """Every dotted key a user may set, options of the chosen members included."""
    return [dotted(path) for path in paths_of(model_type, value or complete(tree_of({}, origin="default"), model_type))]


def contents(file: Path) -> str:
    """The text of a configuration's file."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is no text in UTF-8: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}; give the path of a YAML file") from error


def _overrides(model_type: type[T], overrides: Iterable[str] | Mapping[str, Any], problems: list[str]) -> list[Node]:
    """All overrides as one layer, the shorter keys first; two for one value are a problem."""
    if isinstance(overrides, Mapping):
        paths = [found for key, value in overrides.items() if (found := _argument(key, value, problems))]
    else:
        paths = [found for text in overrides if (found := read_override(text, problems=problems))]
    layers = [fit(nested(path, node), model_type) for path, node in sorted(paths, key=lambda found: len(found[0]))]
    once = functools.partial(merge, problems=problems, once=True)
    return [functools.reduce(once, layers)] if layers else []


def _argument(key: str, value: Any, problems: list[str]) -> tuple[Keys, Node] | None:
    place = f"argument {key}"
    try:
        return tuple(key.split(".")), layer_of(value, origin="Python", place=place)
    except PydanticSerializationError:
        problems.append(f"{place}: got {value!r}; a configuration holds numbers, texts, lists and mappings")
        return None


def _refer(tree: Node, values: Mapping[str, Any], problems: list[str]) -> Node:
    """References replaced, each problem with the place of the value that holds it."""
    if isinstance(tree.value, dict):
        return replace(tree, value={key: _refer(child, values, problems) for key, child in tree.value.items()})
    if isinstance(tree.value, list):
        return replace(tree, value=[_refer(child, values, problems) for child in tree.value])
    try:
        return layer_of(resolve_references(tree.value, values), origin=tree.origin, place=tree.place)
    except ConfigError as error:
        problems.append(f"{tree.place}: {error}")
        return tree


def _origins(value: BaseModel, tree: Node) -> dict[str, str]:
    origins: dict[str, str] = {}
    for path, _ in leaves(tree_of(value.model_dump(mode="json"), origin="default")):
        steps, node = _walk(tree, path)
        origins[dotted(path)] = node.origin if steps == path else "default"
    return origins


def _walk(tree: Node, path: Keys) -> tuple[Keys, Node]:
    """The steps of a path that the tree has, and the node reached; pydantic names a union's arms as steps too."""
    steps: Keys = ()
    for key in path:
        below = tree.child(key)
        if below is not None:
            steps, tree = (*steps, key), below
    return steps, tree


def _explained(error: ValidationError, tree: Node, model_type: type[BaseModel]) -> list[str]:
    """Every error of a validation as a sentence with its place; what the arms of a union say is joined."""
    said: dict[tuple[str, str], list[str]] = {}
    for found in error.errors():
        for below, text in found.get("ctx", {}).get("problems") or [((), complaint(found))]:
            steps, node = _walk(tree, (*found["loc"], *below))
            place = node.place
            if found["type"] == "missing":
                steps = (*steps, found["loc"][-1])
                text = _missing(model_type, steps)
            elif found["type"] == "extra_forbidden":
                place, text = node.key_place, _unknown(steps, node, tree, model_type)
            elif found["type"] == "model_type" and takes_null(functools.reduce(child_annotation, steps, model_type)):
                text = f"{text}, true or false"
            said.setdefault((dotted(steps), place), []).append(text)
    deepest = {at: texts for at, texts in said.items() if not any(key.startswith(f"{at[0]}.") for key, _ in said)}
    return [
        ": ".join(part for part in (place, key, " or ".join(dict.fromkeys(texts))) if part)
        for (key, place), texts in deepest.items()
    ]


def _missing(model_type: type[BaseModel], path: Keys) -> str:
    above: Any = functools.reduce(child_annotation, path[:-1], model_type)
    field = (model_of(above) or model_type).model_fields.get(str(path[-1]))
    about = f": {' '.join(field.description.split())}" if field and field.description else ""
    return f"must be given{about}"


def _unknown(steps: Keys, node: Node, tree: Node, model_type: type[BaseModel]) -> str:
    """An unknown key: the nearest beside it, or the same key elsewhere in the tree."""
    here: Any = model_of(functools.reduce(child_annotation, steps[:-1], model_type))
    allowed = [str(key) for key in here.model_fields]
    everywhere = keys_of(model_type, tree)
    wanted = next(iter(leaves(node, steps)))[0]
    same = [key for key in everywhere if key.split(".")[-1] == str(wanted[-1])][:3]
    close = difflib.get_close_matches(str(steps[-1]), allowed, n=1, cutoff=0.6)
    close = [dotted((*steps[:-1], key)) for key in close]
    far = difflib.get_close_matches(dotted(wanted), everywhere, n=1, cutoff=0.6)
    meant = " or ".join(sorted(same, key=len) or close or far)
    near = f" (did you mean {meant}?)" if meant else ""
    return f"there is no such key{near}; allowed here: {listed(allowed)}"


def _rows(model: type[BaseModel], name: str, above: Keys, defaults: BaseModel | None) -> list[Described]:
    """One field, and the fields of the section or the options of the choice below it.

    `defaults` is the section that stands where nothing is given; without one the fields' own defaults hold.
    """
    field = model.model_fields[name]
    annotation, path = field.rebuild_annotation(), (*above, name)
    default: Any = field.get_default(call_default_factory=True, validated_data={})
    default = getattr(defaults, name) if defaults is not None else default
    row = Described(
        key=dotted(path),
        type=type_text(annotation),
        default=None if default is PydanticUndefined else _default_text(default),
        doc=field.description or "",
    )
    if isinstance(default, Choice):
        return [row, *_option_rows(choice_of(annotation), default, path)]
    section, below = model_of(annotation), path
    if section is None and child_annotation(annotation, 0) is not None:
        section, below = model_of(child_annotation(annotation, 0)), (*path, "N")
    inside = default if isinstance(default, BaseModel) else None
    if section is None:
        return [row]
    return [row] + [found for key in section.model_fields for found in _rows(section, key, below, inside)]


def _option_rows(shelves: Shelves | None, choice: Choice, path: Keys) -> list[Described]:
    """The options of the member that is chosen by default."""
    rows: list[Described] = []
    for option in shelves.shelf_of(choice.name).entry(choice.name).options if shelves else ():
        value = choice.options.get(option.name, option.default)
        default = None if value is REQUIRED else _default_text(value)
        rows.append(Described(key=dotted((*path, option.name)), type=option.text, default=default, doc=""))
    return rows


def _default_text(value: Any) -> str:
    if isinstance(value, Choice):
        return value.name
    return "" if isinstance(value, BaseModel) else flow(plain_value(value))
