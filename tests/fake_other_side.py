"""The other side of a comparison without any library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fake_side import libraries, serve

__all__ = ["libraries", "work"]


def work(workload: Any, folder: Path, clock: Any) -> None:
    serve(workload, folder, clock, name="b", milliseconds=workload.slots)
