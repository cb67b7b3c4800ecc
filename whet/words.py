"""The words of errors and help texts: near matches, lists of names, values and types as a user writes them."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

_PLAIN_TYPES = {float: "number", int: "integer", bool: "true | false", str: "text", NoneType: "null", Path: "path"}

_PYDANTIC_WORDS = {
    "Value error, ": "",
    "Assertion failed, ": "",
    "an object": "a section of keys",
    "a valid array": "a list",
    "a valid string": "text",
    "a valid number": "a number",
    "a valid integer": "an integer",
    "a valid boolean": "true or false",
}


def nearest(word: str, candidates: Iterable[str]) -> str:
    """The closest of `candidates` as the tail of a sentence, or nothing when none is close.

    >>> nearest("dpoo", ["dpo", "ipo", "kto"])
    ' (did you mean dpo?)'
    >>> nearest("zzz", ["dpo"])
    ''
    """
    lowered = {name.lower(): name for name in sorted(candidates, reverse=True)}
    close = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    return f" (did you mean {lowered[close[0]]}?)" if close else ""


def listed(names: Sequence[str], *, most: int = 40) -> str:
    """Names for the end of a sentence; a long list is cut and says so.

    >>> listed(["a", "b", "c"], most=2), listed([])
    ('a, b and 1 more', 'none')
    """
    if not names:
        return "none"
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def shown(value: Any, *, most: int = 80) -> str:
    """A value as a configuration file spells it; a long one is cut.

    >>> shown(True), shown(None), shown("it's"), shown(1e-5)
    ('true', 'null', '"it\\'s"', '1e-05')
    """
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= most else f"{text[:most]}…"


def complaint(error: Mapping[str, Any]) -> str:
    """What pydantic says of one value, in our words.

    >>> complaint({"type": "greater_than", "msg": "Input should be greater than 0", "input": -1})
    'got -1; it must be greater than 0'
    >>> complaint({"type": "value_error", "msg": "Value error, give steps or epochs", "input": {}})
    'give steps or epochs'
    >>> complaint({"type": "less_than", "msg": "Input should be less than 10000000000000000", "input": 1e17})
    'got 1e+17; it must be less than 1e+16'
    """
    text = str(error["msg"]).replace("Input should be", "it must be")
    for theirs, ours in _PYDANTIC_WORDS.items():
        text = text.replace(theirs, ours)
    text = re.sub(r"\d{16,}", lambda digits: f"{float(digits[0]):g}", text)
    own_words = error["type"] in ("value_error", "assertion_error") and isinstance(error["input"], Mapping)
    return text if own_words else f"got {shown(error['input'])}; {text[:1].lower()}{text[1:]}"


def type_text(kind: Any) -> str:
    """A type as a user reads it.

    >>> type_text(Literal["sum", "mean"]), type_text(tuple[float, ...] | None)
    ('sum | mean', '[number, ...] | null')
    >>> from pydantic import Field
    >>> type_text(Annotated[float, Field(gt=0)])
    'number > 0'
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _named(arguments[1:]) or " ".join([type_text(arguments[0]), *_bounds(arguments[1:])])
    if origin is Literal:
        return " | ".join(value if isinstance(value, str) else shown(value) for value in arguments)
    if origin in (Union, UnionType):
        return " | ".join(type_text(argument) for argument in arguments)
    if origin in (list, tuple):
        inner = [type_text(a) if a is not Ellipsis else "..." for a in arguments] + ["..."] * (origin is list)
        return f"[{', '.join(inner)}]"
    if origin is dict:
        return f"{{{type_text(arguments[0])}: {type_text(arguments[1])}}}"
    if hasattr(kind, "model_fields"):
        return "section"
    return _PLAIN_TYPES.get(kind) or getattr(kind, "__name__", str(kind))


def _named(metadata: Iterable[Any]) -> str:
    """The kind of a shelf among the annotations of a type."""
    return next((part.kind for part in metadata if isinstance(getattr(part, "kind", None), str)), "")


def _bounds(metadata: Iterable[Any]) -> list[str]:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    flat = [part for item in metadata for part in [item, *getattr(item, "metadata", ())]]
    return [f"{sign} {getattr(part, key):g}" for part in flat for key, sign in signs.items() if hasattr(part, key)]
