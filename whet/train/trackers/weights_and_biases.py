"""Weights & Biases: every step's numbers are sent to its service, or kept on disk with `WANDB_MODE=offline`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from whet.errors import MissingExtra


class WeightsAndBiases:
    """A run of the project `whet`; `WANDB_MODE=offline` keeps it on disk."""

    def __init__(self, folder: Path) -> None:
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise MissingExtra("wandb", extra="wandb", why="track=[wandb] reports to Weights & Biases") from error
        self._run = wandb.init(project="whet", dir=str(folder), name=folder.parent.parent.name)

    def begin(self, total: int) -> None:
        """Nothing is written before the first step."""

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)
