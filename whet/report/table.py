"""The final table of a run: the same rows on the console, as text, as JSON and in the report."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table as RichTable
from rich.text import Text

from whet.errors import RunError
from whet.files import explained, replace_file
from whet.plain import parse_row
from whet.report.numerals import EMPTY, MINUS, duration, number, percent

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: the key of its values, its heading, and how values are written.

    `format` is text, number, percent, seconds, or a Python format such as .2f. `note` says in a few words what is
    measured.
    """

    key: str
    title: str
    format: str = "number"
    note: str = ""


COLUMNS: tuple[Column, ...] = (
    Column(key="stage", title="stage", format="text"),
    Column(key="win_rate", title="gold win rate vs SFT", format="percent", note="ties count half; 95 % interval"),
    Column(key="gold", title="gold reward", format=".2f", note="exact reward on held-out prompts, never trained on"),
    Column(key="proxy", title="proxy reward", format=".2f", note="the reward that was trained on"),
    Column(key="kl", title="KL", format=".2f", note="nats per answer from the stage's reference"),
    Column(key="length", title="mean length", format=".1f", note="tokens per answer"),
    Column(key="pass_at_1", title="pass@1", format="percent"),
    Column(key="pass_at_8", title="pass@8", format="percent"),
    Column(key="seconds", title="time", format="seconds"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Columns and rows. A cell is a text, a number, an interval {value, low, high}, or None where it does not apply.

    >>> row = {"stage": "grpo", "win_rate": {"value": 0.8, "low": 0.75, "high": 0.85}}
    >>> print(Table(columns=COLUMNS[:3], rows=(row,)).text())
    stage  gold win rate vs SFT  gold reward
    grpo   80 % [75, 85]                   –
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def json(self) -> dict[str, Any]:
        """As `table.json` has it."""
        return {"columns": [asdict(column) for column in self.columns], "rows": [dict(row) for row in self.rows]}

    def cells(self) -> list[list[str]]:
        """Every cell as text."""
        return [[cell(row.get(column.key), column.format) for column in self.columns] for row in self.rows]

    def text(self) -> str:
        """The table in plain characters, two spaces between columns."""
        lines = [[column.title for column in self.columns], *self.cells()]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        return "\n".join(
            "  ".join(
                f"{item:<{width}}" if self.left(i) else f"{item:>{width}}"
                for i, (item, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )

    def left(self, i: int) -> bool:
        """Whether a column reads from the left: texts, and values with intervals."""
        column = self.columns[i]
        return column.format == "text" or any(isinstance(row.get(column.key), Mapping) for row in self.rows)

    def rich(self, *, width: int) -> RichTable:
        """The table for a console of so many columns; a narrow one gets words under words, intervals under values."""
        narrow = max(map(len, self.text().splitlines())) > width
        cells = [[_stacked(item) if narrow else item for item in line] for line in self.cells()]
        table = RichTable(header_style="bold", box=None, pad_edge=False, collapse_padding=narrow)
        for i, column in enumerate(self.columns):
            lines = [
                text
                for line in cells
                for text in (line[i].split() if column.format == "text" else line[i].splitlines())
            ]
            least = max(map(len, [*column.title.split(), *lines])) if narrow else None
            justify = "left" if self.left(i) else "right"
            table.add_column(column.title, justify=justify, overflow="fold", width=least)
        for line in cells:
            table.add_row(*(Text(item, style="dim" if item == EMPTY else "") for item in line))
        return table


def _stacked(text: str) -> str:
    """A cell on several lines: an interval under its value, seconds under minutes.

    >>> _stacked("50 % [26, 74]"), _stacked("1 min 23 s")
    ('50 %\\n[26, 74]', '1 min\\n23 s')
    """
    return text.replace(" [", "\n[").replace(" min ", " min\n")


def cell(value: Any, form: str) -> str:
    """One value as its column writes it.

    >>> cell(0.834, "percent"), cell(-0.5, "+.2f"), cell(83.0, "seconds"), cell(None, "number"), cell("sft", "text")
    ('83 %', '−0.50', '1 min 23 s', '–', 'sft')
    >>> cell({"value": 2.5, "low": 2.25, "high": 2.75}, ".2f")
    '2.50 [2.25, 2.75]'
    """
    if isinstance(value, Mapping):
        low, high = (_one(value[bound], form).removesuffix(" %") for bound in ("low", "high"))
        return f"{_one(value['value'], form)} [{low}, {high}]"
    return _one(value, form)


def _one(value: Any, form: str) -> str:
    if value is None:
        return EMPTY
    if isinstance(value, str) or form == "text":
        return str(value)
    if not math.isfinite(value):
        return number(value)
    named = {"number": number, "percent": percent, "seconds": duration}
    return named[form](value) if form in named else format(value, form).replace("-", MINUS)


def final_table(rows: Sequence[Row], *, columns: Sequence[Column] = COLUMNS) -> Table:
    """The table of these rows with the columns of which any row has a value.

    >>> [column.key for column in final_table([{"stage": "sft", "gold": 1.0, "kl": None}]).columns]
    ['stage', 'gold']
    """
    known = {column.key for column in columns}
    unknown = sorted({key for row in rows for key in row} - known)
    assert not unknown, f"no column shows {unknown}; the columns are {sorted(known)}"
    used = tuple(column for column in columns if any(row.get(column.key) is not None for row in rows))
    return Table(columns=used, rows=tuple(rows))


def numbers_of(rows: Sequence[Row]) -> dict[str, float]:
    """STAGE/NUMBER for every number of a table: what a test or a later stage looks at.

    >>> numbers_of([{"stage": "sft", "gold": 1, "win_rate": {"value": 0.5, "low": 0.4, "high": 0.6}, "kl": None}])
    {'sft/gold': 1.0, 'sft/win_rate': 0.5}
    """
    values = {
        f"{row['stage']}/{key}": cell["value"] if isinstance(cell, Mapping) else cell
        for row in rows
        for key, cell in row.items()
    }
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}


def write_table(folder: Path, table: Table) -> Path:
    """Write `table.json` into a run folder."""
    path = folder / "table.json"
    with explained(f"write {path}"):
        replace_file(path, (json.dumps(_finite(table.json()), indent=1, ensure_ascii=False) + "\n").encode())
    return path


def _finite(value: Any) -> Any:
    """The same tree with words for numbers that JSON cannot write, so that none looks like an empty cell."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return number(value) if isinstance(value, float) and not math.isfinite(value) else value


def read_table(folder: Path) -> Table | None:
    """The table of a run folder; None where it has none."""
    path = folder / "table.json"
    if not path.exists():
        return None
    with explained(f"read {path}"):
        tree = parse_row(path.read_bytes())
    try:
        assert tree is not None
        columns = tuple(Column(**column) for column in tree["columns"])
        return Table(columns=columns, rows=tuple(dict(row) for row in tree["rows"]))
    except (AssertionError, KeyError, TypeError) as error:
        raise RunError(f"{path} is not a table of columns and rows; remove it and make the report again") from error
