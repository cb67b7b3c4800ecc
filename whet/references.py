"""References `${stage.field}`: values of a recipe's later stages that earlier ones make."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from whet.errors import ConfigError
from whet.words import listed, nearest

_REFERENCE = re.compile(r"\$\{([^{}]*)\}")


def resolve_references(tree: Any, values: Mapping[str, Any]) -> Any:
    """`tree` with every `${stage.field}` replaced by that value; a text that is nothing else takes the value's type.

    >>> resolve_references({"model": "${sft.model}", "note": "from ${sft.model}"}, {"sft": {"model": "runs/1"}})
    {'model': 'runs/1', 'note': 'from runs/1'}
    >>> resolve_references("${sfr.model}", {"sft": {"model": "runs/1"}})
    Traceback (most recent call last):
    whet.errors.ConfigError: the reference ${sfr.model} is not known (did you mean ${sft.model}?); known: sft.model
    """
    if isinstance(tree, Mapping):
        items = cast("Mapping[str, Any]", tree).items()
        return {key: resolve_references(child, values) for key, child in items}
    if isinstance(tree, list | tuple):
        return [resolve_references(child, values) for child in cast("list[Any]", tree)]
    if not isinstance(tree, str):
        return tree
    whole = _REFERENCE.fullmatch(tree)
    if whole:
        return _value(whole[1], values)
    return _REFERENCE.sub(lambda found: str(_value(found[1], values)), tree)


def _value(path: str, values: Mapping[str, Any]) -> Any:
    here: Any = values
    for key in path.split("."):
        if not isinstance(here, Mapping) or key not in here:
            known = _known(values)
            near = nearest(path, known).replace("mean ", "mean ${").replace("?)", "}?)")
            raise ConfigError(f"the reference ${{{path}}} is not known{near}; known: {listed(known)}")
        here = cast("Mapping[str, Any]", here)[key]
    return here


def _known(values: Mapping[str, Any], above: str = "") -> list[str]:
    """The dotted paths of all values that are no mappings."""
    return [
        path
        for key, value in values.items()
        for path in (_known(value, f"{above}{key}.") if isinstance(value, Mapping) else [f"{above}{key}"])
    ]
