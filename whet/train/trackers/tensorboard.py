"""TensorBoard: event files in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from whet.errors import MissingExtra


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
