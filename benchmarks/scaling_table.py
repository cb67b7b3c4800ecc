"""The table of the scaling row, and the straight lines through its points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.scaling import Cost, Point

GIGA, MIB = 1e9, 2**20

MEANING = """\
tokens: through the model in one update; once: each prompt and each response once; repeated: the prompt with each of its
responses. Operations in units of 10^9: linear layers and head, then attention (the rectangles its kernels are given).
kept: most MiB that one update keeps for backward. drawn: tokens through the model in sampling (on a CPU a decode step
has eight rows at least, so fewer responses leave some idle). CPU seconds: median of the rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """y = a + b x through the points by least squares; `deviation` is the largest |y − line| / y."""

    a: float
    b: float
    deviation: float


def line(x: Sequence[float], y: Sequence[float]) -> Line:
    """The least-squares line of points with y > 0; all on one y or one x give b = 0.

    >>> line([1, 2, 3], [5, 7, 9])
    Line(a=3.0, b=2.0, deviation=0.0)
    """
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((at - mean_x) ** 2 for at in x)
    slope = sum((at - mean_x) * (of - mean_y) for at, of in zip(x, y, strict=True)) / spread if spread else 0.0
    base = mean_y - slope * mean_x
    worst = max(abs(of - base - slope * at) / of for at, of in zip(x, y, strict=True))
    return Line(a=base, b=slope, deviation=worst)


def row_of(name: str, points: Sequence[Point], costs: Sequence[Cost]) -> dict[str, Any]:
    """Everything that is known of one row, ready for JSON."""
    cells = [
        {**asdict(point), "once": point.once, "repeated": point.repeated, **asdict(cost)}
        for point, cost in zip(points, costs, strict=True)
    ]
    return {"name": name, "points": cells, "lines": _lines(name, cells)}


def _lines(name: str, cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The lines of a row by what they are of; a model of another size has another line, so that row has none."""
    if name == "model" or len(cells) < 3:
        return {}
    grows = "budget" if name == "budget" else "tokens"
    x = [cell["budget"] if grows == "budget" else cell["update"]["tokens"] for cell in cells]
    kinds = {"bytes kept": [cell["update"]["saved"] for cell in cells]}
    if grows == "tokens":
        kinds["linear operations"] = [cell["update"]["linear"] for cell in cells]
        kinds["CPU seconds of the update"] = [cell["update_cpu"] for cell in cells]
    found = {f"{kind} over {grows}": asdict(line(x, y)) for kind, y in kinds.items() if all(y)}
    if name == "budget" or not all(kinds["CPU seconds of the update"]):
        return found
    work = [(cell["update"]["linear"] + cell["update"]["attention"]) / GIGA for cell in cells]  # attention is quadratic
    return found | {"CPU seconds of the update over operations": asdict(line(work, kinds["CPU seconds of the update"]))}


def lines_of(row: dict[str, Any]) -> list[str]:
    """A row in words: one line a point, then its straight lines."""
    name = row["name"]
    head = f"{name:>8s} {'tokens':>7s} {'once':>7s} {'repeated':>8s} {'linear':>8s} {'attention':>9s} {'share':>6s}"
    head += f" {'kept':>7s} {'drawn':>7s} {'CPU: update':>11s} {'sampling':>9s}"
    said = [
        f"{kind} = a + b x: b {fit['b']:.4g}, a {fit['a']:.4g}, off by at most {fit['deviation']:.2%}"
        for kind, fit in row["lines"].items()
    ]
    return [head, *(_cells(name, cell) for cell in row["points"]), *said]


def _cells(name: str, cell: dict[str, Any]) -> str:
    update, sample = cell["update"], cell["sample"]
    share = update["attention"] / (update["linear"] + update["attention"])
    said = f"{cell[name]!s:>8s} {update['tokens']:>7d} {cell['once']:>7d} {cell['repeated']:>8d}"
    said += f" {update['linear'] / GIGA:>8.3f} {update['attention'] / GIGA:>9.3f} {share:>6.1%}"
    said += f" {update['saved'] / MIB:>7.1f} {sample['tokens'] if sample else '-':>7}"
    return said + f" {_seconds(cell['update_cpu']):>11s} {_seconds(cell['sample_cpu']):>9s}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
