"""Files for losses over a dataset, with every column that any loss on the shelves declares to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from console import write

from whet.losses import offline_loss

ROWS = 6


def declared(name: str) -> list[str]:
    """What any loss declares under this name, as `columns` or `answer_columns`."""
    entries = [entry for shelf in offline_loss.shelves for entry in shelf.entries()]
    return sorted({column for entry in entries for column in entry.declarations.get(name, {})})


def data_for(kind: str, folder: Path) -> Path:
    """The file that the losses of a shelf learn from."""
    rows = {"preference loss": pair, "ranking loss": ranking, "rating loss": rating}[kind]
    return write(folder / "rows.jsonl", [rows(number) for number in range(ROWS)])


def answers(number: int) -> list[str]:
    return [f"{number} and more of it", f"no {number}", "?"]


def _numbers(number: int) -> dict[str, float]:
    return dict.fromkeys(declared("columns"), 0.5 + 0.1 * number)


def pair(number: int) -> dict[str, Any]:
    good, bad, _ = answers(number)
    each = {
        f"{side}_{name}": value
        for name in declared("answer_columns")
        for side, value in (("chosen", 0.75), ("rejected", 0.25))
    }
    return {"prompt": f"Ask {number}: ", "chosen": good, "rejected": bad, **_numbers(number), **each}


def ranking(number: int) -> dict[str, Any]:
    each = {name: [0.75, 0.25, 0.5] for name in declared("answer_columns")}
    return {**_numbers(number), **each, "prompt": f"Ask {number}: ", "responses": answers(number), "scores": [2, 0, 1]}


def rating(number: int) -> dict[str, Any]:
    each = dict.fromkeys(declared("answer_columns"), 0.5 + 0.1 * number)
    return {"prompt": f"Ask {number}: ", "completion": answers(number)[number % 2], "label": 1 - number % 2, **each}
