"""What a run folder says, gathered for the report: nothing is computed here that was not written there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whet.errors import RunError
from whet.files import explained
from whet.plain import parse_row
from whet.report.numerals import duration, plain
from whet.report.rollouts import decoder_of, from_rollouts
from whet.report.samples import read_samples
from whet.report.table import Table, read_table
from whet.rundir import RunDir

DULL = ("start", "done", "checkpoint")
"""Events that every run has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigLine:
    """One line of the configuration: its depth, key, value (None for a section) and where the value came from."""

    depth: int
    key: str
    value: str | None
    origin: str

    @property
    def chosen(self) -> bool:
        """Whether somebody set it: a value that is not the default."""
        return self.value is not None and self.origin != "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened: when (after the start), its kind, and what is known of it."""

    after: str
    kind: str
    text: str
    notable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One training run: a stage of a recipe, or the whole run where there are none."""

    name: str
    sentence: str | None
    formula: str | None
    seconds: float | None
    finished: bool
    metrics: tuple[dict[str, Any], ...]
    evals: tuple[dict[str, Any], ...]
    rollouts: tuple[dict[str, Any], ...]
    config: tuple[ConfigLine, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A run as the report tells it."""

    name: str
    title: str
    sentence: str | None
    commands: tuple[str, ...]
    table: Table | None
    samples: tuple[dict[str, Any], ...]
    rollouts: tuple[dict[str, Any], ...]
    config: tuple[ConfigLine, ...]
    environment: tuple[tuple[str, str], ...]
    events: tuple[Event, ...]
    stages: tuple[Stage, ...]

    @property
    def seconds(self) -> float | None:
        """Time of all stages; None where no stage wrote its clock."""
        known = [stage.seconds for stage in self.stages if stage.seconds is not None]
        return sum(known) if known else None


def read_story(folder: Path) -> Story:
    """Everything the report shows of a run folder, finished or not.

    `about.json` in the folder, and in a stage's, may say {title, sentence, formula, commands: […]}.
    """
    run = RunDir.open(folder)
    about = read_about(folder)
    places = sorted(path for path in (folder / "stages").glob("*") if (path / "config.json").is_file())
    stages = tuple(read_stage(place, name=place.name.partition("-")[2] or place.name) for place in places)
    own = read_stage(folder, name=folder.name)
    samples = read_samples(folder) or [row for place in places for row in read_samples(place)]
    return Story(
        name=folder.name,
        title=about.get("title") or str(run.config.get("recipe") or folder.name),
        sentence=about.get("sentence"),
        commands=tuple(about.get("commands") or (f"whet run {folder / 'config.yaml'}",)),
        table=read_table(folder),
        samples=tuple(samples),
        rollouts=tuple(row for stage in stages or (own,) for row in stage.rollouts),
        config=own.config,
        environment=tuple(flat(run.environment)),
        events=own.events if stages else (),
        stages=stages or (own,),
    )


def read_about(folder: Path) -> dict[str, Any]:
    """What a run says of itself in words."""
    path = folder / "about.json"
    if not path.exists():
        return {}
    with explained(f"read {path}"):
        about = parse_row(path.read_bytes())
    if about is None:
        raise RunError(f"{path} is not readable as JSON; remove it and make the report again")
    return about


def read_stage(folder: Path, *, name: str) -> Stage:
    """One run folder's rows and options."""
    run = RunDir.open(folder)
    about = read_about(folder)
    return Stage(
        name=name,
        sentence=about.get("sentence"),
        formula=about.get("formula"),
        seconds=clock(run),
        finished=(folder / "done.json").exists(),
        metrics=tuple(run.rows("metrics")),
        evals=tuple(run.rows("evals")),
        rollouts=tuple(from_rollouts(run.rows("rollouts"), stage=name, decode=decoder_of(folder))),
        config=tuple(config_lines(run.config, run.origins)),
        events=tuple(read_events(run)),
    )


def clock(run: RunDir) -> float | None:
    """Seconds of all steps by `timing.jsonl`."""
    times = [row["seconds"] for row in run.rows("timing") if isinstance(row.get("seconds"), int | float)]
    return float(sum(times)) if times else None


def config_lines(
    tree: Mapping[str, Any], origins: Mapping[str, str], *, place: str = "", depth: int = 0
) -> Iterator[ConfigLine]:
    """The configuration line by line; a value without an origin has its section's, at the top "default".

    >>> lines = config_lines({"steps": 5, "optim": {"lr": 0.1}}, {"steps": "command line"})
    >>> [(line.key, line.value, line.origin, line.chosen) for line in lines]
    [('steps', '5', 'command line', True), ('optim', None, 'default', False), ('lr', '0.1', 'default', False)]
    """
    for key, value in tree.items():
        name = f"{place}.{key}" if place else str(key)
        origin = origins.get(name) or origins.get(place) or "default"
        if isinstance(value, Mapping) and value:
            yield ConfigLine(depth=depth, key=str(key), value=None, origin=origin)
            yield from config_lines(value, {**origins, name: origin}, place=name, depth=depth + 1)
        else:
            yield ConfigLine(depth=depth, key=str(key), value=plain(value), origin=origin)


def read_events(run: RunDir) -> Iterator[Event]:
    """The events with their time after the first one."""
    begun: float | None = None
    for row in run.rows("events"):
        begun = row.get("at") if begun is None else begun
        known = {
            key: value
            for key, value in row.items()
            if key not in ("event", "at", "pid", "text") and value not in ({}, [])
        }
        words = [str(row["text"])] if row.get("text") else []
        words += [str(line) for line in known.pop("lines", ())]
        words += [plain(known)] if known else []
        kind = str(row.get("event", "event"))
        after = duration(row["at"] - begun) if begun is not None and row.get("at") is not None else ""
        yield Event(after=after, kind=kind, text=" · ".join(words), notable=kind not in DULL)


def flat(tree: Mapping[str, Any], *, place: str = "") -> Iterator[tuple[str, str]]:
    """Nested values as (dotted name, value).

    >>> list(flat({"python": "3.11", "versions": {"torch": "2.13"}}))
    [('python', '3.11'), ('versions.torch', '2.13')]
    """
    for key, value in tree.items():
        name = f"{place}.{key}" if place else str(key)
        if isinstance(value, Mapping):
            yield from flat(value, place=name)
        else:
            yield name, plain(value)
