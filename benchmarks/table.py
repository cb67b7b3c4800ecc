"""Outcomes → rows of numbers, a table for people and JSON for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import whet
from benchmarks.duel import Outcome
from benchmarks.workloads import Workload

OURS, THEIRS = "whet", "trl"


def row_of(workload: Workload, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """Everything known of one comparison; a ratio is there only where both sides finished every step.

    `faster` is the ratio of medians, theirs over ours, `faster_range` the least and greatest ratio of neighbours in
    time, `cpu` the same as `faster` in processor seconds, `memory` ours over theirs.
    """
    ours, theirs = outcomes[OURS], outcomes[THEIRS]
    row: dict[str, Any] = {"name": workload.name, "work": workload.words, "workload": asdict(workload)}
    row |= {name: asdict(outcome) for name, outcome in outcomes.items()}
    row["failed"] = {name: outcome.failed for name, outcome in outcomes.items() if outcome.failed}
    if row["failed"] or not ours.seconds:
        return row | {"faster": None, "faster_range": None, "cpu": None, "memory": None}
    paired = [b / a for a, b in zip(ours.seconds, theirs.seconds, strict=True)]
    return row | {
        "faster": median(theirs.seconds) / median(ours.seconds),
        "faster_range": [min(paired), max(paired)],
        "cpu": _ratio(median(theirs.cpu), median(ours.cpu)),
        "memory": _ratio(max(ours.memory), max(theirs.memory)),
    }


def _ratio(part: float, whole: float) -> float | None:
    """None where the whole is too small to be measured."""
    return part / whole if whole > 0 else None


HEADER = ("row", "faster", "range", "cpu", "memory", "whet s", "trl s", "whet MiB", "trl MiB")


def lines_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table, then each row in words with both sides' settings, then what failed."""
    cells = [HEADER, *map(_cells, rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEADER))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    words = [f"{row['name']}: {row['work']}" for row in rows]
    settings = [
        f"  {side}: " + ", ".join(f"{name}={value}" for name, value in row[side]["settings"].items())
        for row in rows
        for side in (OURS, THEIRS)
    ]
    told = [line for i, word in enumerate(words) for line in (word, *settings[2 * i : 2 * i + 2])]
    failed = [f"{row['name']}: {side} failed: {why}" for row in rows for side, why in row["failed"].items()]
    return [*table, "", *told, *failed]


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    if row["faster"] is None:
        return (row["name"], "failed", *[""] * (len(HEADER) - 2))
    ours, theirs = row[OURS], row[THEIRS]
    least, greatest = row["faster_range"]
    return (
        row["name"],
        _times(row["faster"]),
        f"{least:.2f}-{greatest:.2f}",
        _times(row["cpu"]),
        _times(row["memory"]),
        f"{median(ours['seconds']):.3f}",
        f"{median(theirs['seconds']):.3f}",
        f"{max(ours['memory']):.0f}",
        f"{max(theirs['memory']):.0f}",
    )


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"


MEANING = (
    "faster: median step of TRL over Whet's, range: of neighbouring steps; cpu: the same in processor seconds; "
    "memory: Whet's peak over TRL's, each above its imports."
)


def environment(threads: int) -> dict[str, Any]:
    """The machine and the versions that the numbers belong to."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(_memory() / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "threads": threads,
        "load": os.getloadavg()[0],
        "whet": whet.__version__,
        **{name: _version(name) for name in ("torch", "transformers", "trl")},
    }


def write(path: Path, rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any], *, head: Any = None) -> None:
    """The whole comparison as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"environment": machine, "rows": list(rows), "head": head}, indent=1) + "\n")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
