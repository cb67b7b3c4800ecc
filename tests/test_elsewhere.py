"""Training and sampling on a device that is not the CPU: no tensor on the wrong one, no needless wait, same numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import test_step
from forge import forge

MAY_WAIT = ("train/step.py", "train/monitors.py", "losses/step/process.py", "train/optimizer")
"""Once a piece or once a step; nothing below them waits."""


QUICK = ("grpo", "kto", "bradley_terry", "llama")
"""Two models and statistics; a loss that couples; heads. The others are tried with the slow tests."""


def each(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


def tried(what: str, argument: str, folder: Path) -> dict[str, Any]:
    out = folder / "answer.json"
    code = forge().ask("elsewhere_cases:tried", what=what, argument=argument, out=str(out))
    assert code == 0, (folder / "answer.json.said").read_text()[-3000:]
    return json.loads(out.read_text())


@pytest.mark.parametrize("method", each(test_step.METHODS))
def test_a_step(method: str, tmp_path: Path) -> None:
    found = tried("step", method, tmp_path)
    assert found["pretend"] == pytest.approx(found["cpu"], rel=1e-9, abs=1e-9)
    assert not [place for place in found["waits"] if not place.split()[-1].startswith(MAY_WAIT)]
    passes = found["copies"]["transfer.py:45"] / found["pieces"]
    assert passes in (2, 3, 4), "the batch and its plan, for one model or two, or twice for a coupled loss"


@pytest.mark.parametrize("family", each(["llama", "gemma2"]))
def test_sampling(family: str, tmp_path: Path) -> None:
    found = tried("sample", family, tmp_path)
    assert found["pretend"] == found["cpu"]
    assert all(place.startswith("tolist rollout/") for place in found["waits"])
    assert sum(found["waits"].values()) <= 3 * (found["steps"] + 1)
