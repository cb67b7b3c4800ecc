"""One row of a dataset as it was read, with the place it came from; a row that could not be read says why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Columns of one row. `fault` is empty, or the reason why there are no columns.

    >>> Row(columns={"text": "a"}, file="train.jsonl", line=3).where
    'train.jsonl:3'
    """

    columns: Mapping[str, Any] = field(default_factory=dict)
    file: str
    line: int
    fault: str = ""

    @property
    def where(self) -> str:
        """`file:line`, which is also the id of a row that has none of its own."""
        return f"{self.file}:{self.line}"


class RowFault(Exception):
    """Why one row is refused; whoever reads rows turns it into a count or into a `DataError` with the place."""


def rows_of(columns: Iterable[Mapping[str, Any]], *, name: str = "rows") -> Iterator[Row]:
    """Rows given in code, as mappings from column to value; their places count from 1.

    >>> [row.where for row in rows_of([{"text": "a"}, {"text": "b"}])]
    ['rows:1', 'rows:2']
    """
    for line, given in enumerate(columns, start=1):
        if isinstance(given, Mapping):
            yield Row(columns=given, file=name, line=line)
        else:
            yield Row(file=name, line=line, fault=f"is a {type(given).__name__}, not a mapping from column to value")
