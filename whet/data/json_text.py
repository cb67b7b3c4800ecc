"""JSON, stricter than the standard library, which takes NaN, repeated keys and half characters."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from whet.data.rows import RowFault

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str) -> Any:
    """The value of a JSON text; anything a dataset should not contain is a `RowFault` with the reason.

    >>> parse_json('{"prompt": "2 + 3 =", "n": 1}')
    {'prompt': '2 + 3 =', 'n': 1}
    >>> parse_json('{"chosen": "a", "chosen": "b"}')
    Traceback (most recent call last):
    ...
    whet.data.rows.RowFault: has the key 'chosen' twice
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise RowFault("is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise RowFault(f"is not JSON: {error.msg} at character {error.pos + 1}") from None
    except ValueError:
        raise RowFault("has an integer with too many digits") from None
    if _SURROGATE.search(text):
        _refuse_half_characters(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise RowFault(f"has the key {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return found


def _no_constant(name: str) -> Any:
    raise RowFault(f"has {name}, which JSON does not know")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise RowFault(f"has the number {text}, which is too large")
    return value


def _refuse_half_characters(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise RowFault("has half of a character (a lone surrogate such as \\ud800)") from None
