"""Outcomes → rows of numbers, a table for people and JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import limit
from benchmarks.contenders import OURS
from benchmarks.duel import Outcome
from benchmarks.goals import judged
from benchmarks.workloads import Workload


def row_of(
    workload: Workload, outcomes: Mapping[str, Outcome], *, model: str = "7M", small: bool = False
) -> dict[str, Any]:
    """Everything known of one comparison; Whet is compared with each peer that finished every step, as it did.

    `against` has per peer: `faster`, the ratio of medians, theirs over ours; `faster_range`, the least and greatest
    ratio of neighbours in time; `cpu`, the same as `faster` in processor seconds; `memory`, ours over theirs. `best` is
    the fastest of them. `limit` is Whet's share of the machine's limit (benchmarks/limit.py), None where the run has no
    rate. `goals` are those of the full work; the small size has none.
    """
    ours = outcomes[OURS]
    row: dict[str, Any] = {"name": workload.name, "model": model, "small": small, "work": workload.words}
    row["workload"] = asdict(workload)
    row["sides"] = {name: asdict(outcome) for name, outcome in outcomes.items()}
    row["failed"] = {name: outcome.failed for name, outcome in outcomes.items() if outcome.failed}
    done = ours.seconds and OURS not in row["failed"]
    able = [name for name in outcomes if done and name not in (OURS, *row["failed"])]
    row["against"] = {name: _against(ours, outcomes[name]) for name in able}
    row["best"] = min(able, key=lambda name: row["against"][name]["faster"], default=None)
    row["limit"] = _limit(workload, ours) if done else None
    return row | {"goals": [] if small else judged(row)}


def _against(ours: Outcome, theirs: Outcome) -> dict[str, Any]:
    paired = [b / a for a, b in zip(ours.seconds, theirs.seconds, strict=True)]
    return {
        "faster": median(theirs.seconds) / median(ours.seconds),
        "faster_range": [min(paired), max(paired)],
        "cpu": _ratio(median(theirs.cpu), median(ours.cpu)),
        "memory": _ratio(max(ours.memory), max(theirs.memory)),
    }


def _ratio(part: float, whole: float) -> float | None:
    """None where the whole is too small to be measured."""
    return part / whole if whole > 0 else None


def _limit(workload: Workload, ours: Outcome) -> dict[str, Any] | None:
    """Share of the limit: the median over the steps, each against the rates that were measured right after it."""
    if not all("rate" in counts for counts in ours.counts):
        return None
    parts = [
        limit.least(workload, counts.get("lengths", ()), rate=counts["rate"], bandwidth=counts["bandwidth"])
        for counts in ours.counts
    ]
    shares = [part.seconds / seconds for part, seconds in zip(parts, ours.seconds, strict=True)]
    return {
        "share": median(shares),
        "range": [min(shares), max(shares)],
        "sampling": median(part.sampling / part.seconds for part in parts),
        "rate": median(counts["rate"] for counts in ours.counts),
        "bandwidth": median(counts["bandwidth"] for counts in ours.counts),
    }


HEADER = ("row", "side", "faster", "range", "cpu", "memory", "limit", "MiB", "s (noisy)", "goals")


def lines_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table, then each row in words with its goals and its sides' settings, then what failed."""
    return [*cells_of(rows), "", *(line for row in rows for line in _words(row))]


def cells_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table alone."""
    cells = [HEADER, *(line for row in rows for line in _cells(row))]
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEADER))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _cells(row: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A line of Whet, then one of each peer, the fastest marked."""
    share = "" if row["limit"] is None else f"{row['limit']['share']:.0%}"
    lines = []
    for name, side in row["sides"].items():
        shown = name + (" *" if name == row["best"] else "")
        first = row["name"] if name == OURS else ""
        if name in row["failed"]:
            lines.append((first, shown, "failed", *[""] * 6, verdict(row["goals"]) if name == OURS else ""))
            continue
        own = (f"{max(side['memory'], default=0):.0f}", f"{median(side['seconds'] or [0]):.3f}")
        if name == OURS:
            lines.append((first, shown, "", "", "", "", share, *own, verdict(row["goals"])))
        else:
            lines.append((first, shown, *_ratios(row["against"].get(name)), "", *own, ""))
    return lines


def _ratios(found: Mapping[str, Any] | None) -> tuple[str, str, str, str]:
    if found is None:
        return "-", "-", "-", "-"
    least, greatest = found["faster_range"]
    return _times(found["faster"]), f"{least:.2f}-{greatest:.2f}", _times(found["cpu"]), _times(found["memory"])


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"


def verdict(goals: Sequence[Mapping[str, Any]]) -> str:
    """One cell for all goals of a row: met, or which are missed or without a value.

    >>> verdict([{"goal": "memory <= 0.6x", "met": True}, {"goal": "faster >= 2x", "met": False}])
    'missed: faster >= 2x'
    """
    missed = [goal["goal"] for goal in goals if goal["met"] is False]
    unknown = [goal["goal"] for goal in goals if goal["met"] is None]
    said = [f"{word}: {', '.join(which)}" for word, which in (("missed", missed), ("not measured", unknown)) if which]
    return "; ".join(said) or ("met" if goals else "none")


def _words(row: Mapping[str, Any]) -> list[str]:
    out = [f"{row['name']} ({row['model']}): {row['work']}"]
    for goal in row["goals"]:
        word = {True: "met", False: "missed", None: "not measured"}[goal["met"]]
        number = "" if goal["value"] is None else f" ({goal['value']:.3g})"
        out.append(f"  goal {goal['goal']}: {word}{number}")
    if row["limit"] is not None:
        least, greatest = row["limit"]["range"]
        found = row["limit"]
        rates = f"{found['rate'] / 1e9:.0f} GFLOP/s and {found['bandwidth'] / 1e9:.1f} GB/s"
        out.append(f"  limit: {found['share']:.0%} of it ({least:.0%}-{greatest:.0%}) at {rates} in this run")
    for side, outcome in row["sides"].items():
        settings = ", ".join(f"{name}={value}" for name, value in outcome["settings"].items())
        tokens = [counts["tokens"] for counts in outcome["counts"] if "tokens" in counts]
        drawn = f"; drew {median(tokens):.0f} tokens" if tokens else ""
        out.append(f"  {side}: {settings}{drawn}")
    out += [f"  {note}" for note in row.get("notes", [])]
    return out + [f"{row['name']}: {side} failed: {why}" for side, why in row["failed"].items()]


MEANING = (
    "faster: median step of a peer over Whet's, range: of neighbouring steps, * the fastest peer; cpu: the same in "
    "processor seconds; memory: Whet's peak over the peer's, each above its imports; limit: Whet's share of the "
    "machine's limit. Seconds are noisy by factors from run to run: compare ratios only."
)


def write(path: Path, rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any], *, head: Any = None) -> None:
    """The whole comparison as JSON, complete or not there at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps({"environment": machine, "rows": list(rows), "head": head}, indent=1) + "\n")
    part.replace(path)


def read(path: Path) -> dict[str, Any]:
    """What `write` wrote; nothing where there is no such file."""
    return json.loads(path.read_text()) if path.exists() else {"rows": [], "head": None}
