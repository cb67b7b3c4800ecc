"""Where the values of a recipe's stages come from: which of them follow from a parameter that was given.

A recipe is a function, so nothing in its stages says which parameter a value was made of. Asking is simple: run it with
another value of one parameter; what changes follows from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from whet.errors import WhetError
from whet.recipes.stage import Stage
from whet.tree import dotted, leaves, plain, tree_of

Params = TypeVar("Params", bound=BaseModel)


def given_by(overrides: object) -> str:
    """The origin of overrides: a mapping is what Python code gave."""
    return "Python" if isinstance(overrides, Mapping) else "command line"


def leaves_of(config: BaseModel) -> dict[str, Any]:
    """Every plain value of a configuration by its dotted key."""
    found = leaves(tree_of(config.model_dump(mode="json"), origin=""))
    return {dotted(path): plain(node) for path, node in found}


def traced(
    unroll: Callable[[Params], Iterable[Stage]], params: Params, sources: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """stage → key → "ORIGIN (PARAMETER)" for every value that another value of a given parameter would change.

    A stage that another value gives another name is the one in its place.
    """
    before = {stage.name: leaves_of(stage.config) for stage in unroll(params)}
    found: dict[str, dict[str, str]] = {name: {} for name in before}
    for name, origin in sources.items():
        other = _another(params, name)
        for place, stage in enumerate(_stages(unroll, other) if other is not None else ()):
            mine = stage.name if stage.name in before else next(islice(before, place, None), None)
            after = leaves_of(stage.config)
            for key, value in before.get(mine or "", {}).items():
                if key not in after or after[key] != value:
                    both = (found[mine or ""].get(key), f"{origin} ({name})")
                    found[mine or ""][key] = ", ".join(text for text in both if text)
    return found


def _stages(unroll: Callable[[Params], Iterable[Stage]], params: Params) -> list[Stage]:
    """The recipe's stages, or none where it does not take this value: then nothing is known of the parameter."""
    try:
        return list(unroll(params))
    except (WhetError, ValueError, LookupError, TypeError):
        return []


def _another(params: Params, name: str) -> Params | None:
    """The same parameters with another value of one, or None where none is found."""
    field = type(params).model_fields.get(name)
    value = getattr(params, name, None)
    default = field.get_default(call_default_factory=True, validated_data={}) if field else None
    for other in (default, *_beside(value, field.annotation)) if field else ():
        try:
            made = type(params).model_validate({**dict(params), name: other})
        except ValidationError:
            continue
        if getattr(made, name) != value:
            return made
    return None


def _beside(value: Any, annotation: Any) -> Iterator[Any]:
    """Values that a field may hold instead."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif value is None:
        yield from ({}, 1, "?")
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (value + 1, value - 1, value / 2)
    elif isinstance(value, str):
        yield f"{value}?"
    elif isinstance(value, tuple):
        yield from (value[:-1], ("?",)) if value else (("?",),)


def joined(tree: Mapping[str, Any], origins: Mapping[str, str]) -> dict[str, str]:
    """`origins`, and for each list, which a file has on one line, those of its elements together."""
    return {**origins, **{name: ", ".join(dict.fromkeys(below)) for name, below in _lists(tree, origins, "")}}


def _lists(tree: Mapping[str, Any], origins: Mapping[str, str], above: str) -> Iterator[tuple[str, list[str]]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _lists(value, origins, f"{above}{key}.")
        elif isinstance(value, list):
            below = [origin for name, origin in origins.items() if name.startswith(f"{above}{key}.")]
            if below:
                yield f"{above}{key}", below
