"""Plain values as text, in one form: equal values give equal bytes on every run and every machine.

A plain value is None, a bool, an int, a finite float, a string, or a list or a mapping with string keys of plain
values. Numpy scalars and arrays, tuples, paths and enumerations become plain; anything else is refused by the name of
its place, never turned into a string.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from whet.errors import RunError

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_CONTAINERS = (
    dict,
    list,
    tuple,
)  # not Mapping: an abstract class is six times slower to ask, and long lists of floats pass here
_YAML_RESERVED = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def to_json(value: Any) -> str:
    """One line of JSON: keys sorted, floats in their shortest exact form, ASCII only; NaN and infinity are refused.

    >>> to_json({"b": (1, 2.5), "a": np.float64(0.1)})
    '{"a": 0.1, "b": [1, 2.5]}'
    >>> to_json({"loss": {"kl": float("nan")}})
    Traceback (most recent call last):
    ...
    whet.errors.RunError: loss.kl is nan, which JSON cannot hold: write null for "not measured", or find its cause
    """
    try:
        _check_keys(value, "")
        return _JSON.encode(value)
    except (TypeError, ValueError) as error:
        raise RunError(_complaint(value, "") or f"the value cannot be written as JSON: {error}") from error


def json_hash(value: Any) -> str:
    """sha256 of the value's one JSON form, as 64 hexadecimal digits.

    >>> json_hash({"a": 1, "b": 2}) == json_hash({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(to_json(value).encode("ascii")).hexdigest()


def _plain(value: Any) -> Any:
    """What `json` cannot write by itself, as a plain value."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        plain = dict(value)
        _check_keys(plain, "")
        return plain
    raise TypeError(f"a {type(value).__name__} is not a plain value")


_JSON = json.JSONEncoder(sort_keys=True, allow_nan=False, default=_plain)
"""Made once: making it takes longer than writing a short value."""


def _check_keys(value: Any, place: str) -> None:
    """Refuse keys that `json` would silently turn into strings (1 and "1" would become one key)."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise RunError(f"{place or 'the top level'} has the key {key!r}; keys must be strings")
            if isinstance(item, _CONTAINERS):
                _check_keys(item, _join(place, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            if isinstance(item, _CONTAINERS):
                _check_keys(item, f"{place}[{index}]")


def _complaint(value: Any, place: str) -> str | None:
    """The first place in a value that cannot be written, in words."""
    if isinstance(value, Mapping):
        found = (_complaint(item, _join(place, str(key))) for key, item in value.items())
        return next((text for text in found if text), None)
    if isinstance(value, list | tuple):
        found = (_complaint(item, f"{place}[{index}]") for index, item in enumerate(value))
        return next((text for text in found if text), None)
    where = place or "the value"
    if isinstance(value, float) and not np.isfinite(value):
        return f'{where} is {value}, which JSON cannot hold: write null for "not measured", or find its cause'
    if isinstance(value, np.generic | np.ndarray):
        return _complaint(value.tolist(), place)
    if value is None or isinstance(value, str | int | float | PurePath | enum.Enum):
        return None
    return f"{where} is a {type(value).__name__}, which JSON cannot hold: pass numbers, strings, lists, mappings"


def _join(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def differences(before: Mapping[str, Any], after: Mapping[str, Any], *, place: str = "") -> list[str]:
    """Each leaf in which two plain trees differ, one line each, by dotted name.

    >>> differences({"optim": {"lr": 0.1}, "steps": 5}, {"optim": {"lr": 0.2}, "seed": 1})
    ['optim.lr: 0.1 → 0.2', 'seed: absent → 1', 'steps: 5 → absent']
    """
    lines: list[str] = []
    for key in sorted({*before, *after}):
        name, absent = _join(place, key), object()
        old, new = before.get(key, absent), after.get(key, absent)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += differences(old, new, place=name)
        elif old is absent or new is absent or to_json(old) != to_json(new):
            lines.append(
                f"{name}: {'absent' if old is absent else to_json(old)} → {'absent' if new is absent else to_json(new)}"
            )
    return lines


def to_yaml(tree: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    """A plain tree as YAML that can be run again; behind each value stands its origin (by dotted name) as a comment.

    >>> print(to_yaml({"steps": 20, "optim": {"lr": 1e-6, "name": "adamw"}}, {"optim.lr": "command line"}), end="")
    steps: 20
    optim:
      lr: 1.0e-06  # command line
      name: adamw
    """
    return "".join(f"{line}\n" for line in _yaml_lines(tree, origins, "", 0))


def _yaml_lines(tree: Mapping[str, Any], origins: Mapping[str, str], place: str, depth: int) -> Iterator[str]:
    for key, value in tree.items():
        name, head = _join(place, key), "  " * depth + _yaml(key) + ":"
        comment = f"  # {' '.join(origins[name].split())}" if name in origins else ""
        if isinstance(value, Mapping) and value:
            yield head + comment
            yield from _yaml_lines(value, origins, name, depth + 1)
        else:
            yield f"{head} {_yaml(value)}{comment}"


def _yaml(value: Any) -> str:
    """A value on one line (YAML's flow style)."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_yaml(key)}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    if isinstance(value, str):
        return value if _WORD.fullmatch(value) and value.lower() not in _YAML_RESERVED else _quoted(value)
    text = to_json(value)
    if isinstance(value, float) and "e" in text and "." not in text:
        return text.replace("e", ".0e")  # YAML 1.1 reads 1e-06 as a string
    return text if not text.startswith('"') else _yaml(json.loads(text))


def _quoted(text: str) -> str:
    """A double-quoted YAML string, with everything but printable ASCII escaped."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}

    def escape(letter: str) -> str:
        code = ord(letter)
        return letter if 32 <= code < 127 else f"\\U{code:08x}" if code > 0xFFFF else f"\\u{code:04x}"

    return '"' + "".join(escapes.get(letter) or escape(letter) for letter in text) + '"'


def read_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """The whole lines of a file as (number from 1, byte offset, bytes without the newline), without a torn last line.

    A line is torn when the file ends before its newline: the writer was killed inside that write, so the row was never
    there.
    """
    offset = 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.endswith(b"\n"):
                return
            yield number, offset, line[:-1]
            offset += len(line)


def parse_row(line: bytes) -> dict[str, Any] | None:
    """One line as a row, or None where it is not one."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
