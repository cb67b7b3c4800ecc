"""What the tests of trials run in other processes."""

from __future__ import annotations

from pathlib import Path

from whet.errors import NumericsError


def count(folder: Path, *, number: int, log: str) -> dict[str, float]:
    """Twice a number; every call leaves a line in `log`."""
    folder.mkdir()
    with open(log, "a") as lines:
        lines.write(f"{folder.name}\n")
    return {"twice": 2.0 * number}


def diverge(folder: Path) -> dict[str, float]:
    """A run whose loss is not finite."""
    raise NumericsError("not finite: loss/dpo")


def break_down(folder: Path) -> dict[str, float]:
    """A run with a bug."""
    raise KeyError("a bug")
