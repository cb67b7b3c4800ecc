"""TensorBoard and Weights & Biases: each is told every step's numbers. Nothing is sent unless it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from whet.errors import MissingExtra


def trackers(names: Sequence[str], folder: Path) -> list[Any]:
    """The trackers asked for, writing below the run's folder."""
    makers = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}
    return [makers[name](folder) for name in names]


class TensorBoard:
    """Event files in `tensorboard/` of the run."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise MissingExtra(
                "tensorboard", extra="tensorboard", why="track=[tensorboard] writes event files"
            ) from error
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def begin(self, total: int) -> None:
        """Nothing is written before the first step."""

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()


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
