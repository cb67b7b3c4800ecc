"""Where the shared data folder is: beside the repository, not in it."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def need(path: str | Path) -> Path:
    """The file or folder under `SHARED`, or a skip that says what is absent."""
    found = SHARED / path
    if not found.exists():
        pytest.skip(f"{path} is absent: the shared data folder does not stand beside the repository")
    return found
