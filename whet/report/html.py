"""The report of a run: one HTML file that holds everything and asks for nothing.

No library, no font, no image and no request: style, script and drawings are inside, and the page's content policy
forbids the rest. Whatever a model or a user wrote is escaped by the template.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from whet.files import explained, replace_file
from whet.report.curves import figures, last_measured
from whet.report.numerals import duration, number
from whet.report.plot import SMOOTH_FROM, plot
from whet.report.read import Event, Story, read_story
from whet.report.samples import colourings, largest_advantage, questions
from whet.report.table import Table, cell

OPEN_QUESTIONS = 4
MOST_QUESTIONS = 40

COLOURING_TITLES: Mapping[str, str] = {
    "source": "source",
    "logprobs": "log-probability",
    "advantage": "advantage",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell of the page's table; `track` is the drawing of an interval between 0 and 1."""

    text: str
    interval: str = ""
    left: bool = False
    track: str = ""


def write_report(folder: Path | str) -> Path:
    """Write `report.html` into a run folder, finished or still running, and return its path.

    Raises `RunError` where the folder is not a run or a file in it is damaged.
    """
    place = Path(folder)
    path = place / "report.html"
    page = render(read_story(place))
    with explained(f"write {path}"):
        replace_file(path, page.encode("utf-8", errors="backslashreplace"))
    return path


def render(story: Story) -> str:
    """The page of a story."""
    shown = questions(story.samples)
    rows = [*story.samples, *story.rollouts]
    return _template().render(
        story=story,
        style=Markup(asset("report.css")),
        script=Markup(asset("report.js")),
        headline=headline(story.table) if story.table else None,
        rows=table_rows(story.table) if story.table else [],
        stages=[(stage, figures(stage.metrics, stage.evals), last_measured(stage.evals)) for stage in story.stages],
        questions=shown[:MOST_QUESTIONS],
        question_count=len(shown),
        open_questions=OPEN_QUESTIONS,
        rollouts=questions(story.rollouts),
        colourings=[(key, COLOURING_TITLES[key]) for key in colourings(rows)],
        top_advantage=number(largest_advantage(rows)),
        notable=notable(story),
        smooth_from=SMOOTH_FROM,
        plot=plot,
        duration=duration,
    )


@functools.cache
def _template() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(asset("report.html.j2"))


def asset(name: str) -> str:
    """A file of the page's own: template, style or script."""
    return (files("whet.report") / "page" / name).read_text(encoding="utf-8")


def table_rows(table: Table) -> list[list[Cell]]:
    """The table's cells; an interval is set apart from its value, and drawn where it is a share."""
    return [
        [_cell(row.get(column.key), column.format, left=table.left(i)) for i, column in enumerate(table.columns)]
        for row in table.rows
    ]


def _cell(value: Any, form: str, *, left: bool) -> Cell:
    if not isinstance(value, Mapping):
        return Cell(text=cell(value, form), left=left)
    text, _, interval = cell(value, form).partition(" [")
    numbers = [value[key] for key in ("value", "low", "high")]
    drawn = form == "percent" and all(isinstance(x, int | float) and 0 <= x <= 1 for x in numbers)
    return Cell(text=text, interval=f"[{interval}", left=left, track=track(*numbers) if drawn else "")


def track(value: float, low: float, high: float) -> Markup:
    """An interval on a line from 0 to 1, with a mark at one half."""
    return Markup(
        '<svg class="track" viewBox="0 0 100 10" preserveAspectRatio="xMinYMid" aria-hidden="true">'
        '<line class="axis" x1="0" x2="100" y1="5" y2="5"/>'
        '<line class="half" x1="50" x2="50" y1="1" y2="9"/><line class="reach" x1="{:.1f}" x2="{:.1f}" y1="5" y2="5"/>'
        '<circle class="at" cx="{:.1f}" cy="5" r="2.2"/></svg>'
    ).format(low * 100, high * 100, value * 100)


def headline(table: Table) -> str | None:
    """The table in a sentence: the stage that wins most often; None where nothing was compared.

    >>> from whet.report.table import final_table
    >>> won = {"value": 0.8, "low": 0.75, "high": 0.85}
    >>> headline(final_table([{"stage": "sft"}, {"stage": "dpo", "win_rate": won}]))
    'dpo has the highest gold win rate vs SFT: 80 % [75, 85].'
    """
    compared = [row for row in table.rows if isinstance(row.get("win_rate"), Mapping)]
    column = next((column for column in table.columns if column.key == "win_rate"), None)
    if column is None or not compared:
        return None
    best = max(compared, key=lambda row: row["win_rate"]["value"])
    return f"{best.get('stage')} has the highest {column.title}: {cell(best['win_rate'], column.format)}."


def notable(story: Story) -> list[tuple[str, Event]]:
    """The events a reader should see, with their stage."""
    every = [("", event) for event in story.events]
    every += [(stage.name if len(story.stages) > 1 else "", event) for stage in story.stages for event in stage.events]
    return [(name, event) for name, event in every if event.notable]
