"""Trackers, one file each: they are told every step's numbers. Nothing is sent unless it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from whet.train.trackers.tensorboard import TensorBoard
from whet.train.trackers.weights_and_biases import WeightsAndBiases

MAKERS = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}


def trackers(names: Sequence[str], folder: Path) -> list[TensorBoard | WeightsAndBiases]:
    """The trackers asked for, writing below the run's folder."""
    return [MAKERS[name](folder) for name in names]
