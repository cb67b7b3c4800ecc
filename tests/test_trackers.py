"""Trackers are told every step's numbers, under its number."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from whet.train.config import LoopConfig
from whet.train.trackers import MAKERS, trackers


def test_every_tracker_that_may_be_asked_for_is_there() -> None:
    literal = get_args(LoopConfig.model_fields["track"].annotation)[0]
    assert set(get_args(literal)) == set(MAKERS)


def test_tensorboards_events(tmp_path: Path) -> None:
    (tracker,) = trackers(["tensorboard"], tmp_path)
    tracker.begin(2)
    for step, loss in ((1, 0.5), (2, 0.25)):
        tracker.update(step, {"loss": loss})
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert [(event.step, event.value) for event in found.Scalars("loss")] == [(1, 0.5), (2, 0.25)]


def test_weights_and_biases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a stand-in: the run is named after the run's folder."""
    told: list[Any] = []
    run = SimpleNamespace(log=lambda numbers, step: told.append((step, numbers)))
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **keys: told.append(keys) or run))
    (tracker,) = trackers(["wandb"], tmp_path / "sft-1" / "stages" / "01-sft")
    tracker.begin(1)
    tracker.update(1, {"loss": 0.5})
    assert told[0]["project"] == "whet" and told[0]["name"] == "sft-1"
    assert told[1:] == [(1, {"loss": 0.5})]
