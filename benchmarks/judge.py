"""The reward of the sampling rows: cheap, so that the libraries are timed, and different from answer to answer."""

from __future__ import annotations

from typing import Any


def variety(completions: list[str], **columns: Any) -> list[float | None]:
    """Different words per word.

    >>> variety(["a b a b", "a b", ""])
    [0.5, 1.0, 0.0]
    """
    words = [completion.split() for completion in completions]
    return [len(set(said)) / max(1, len(said)) for said in words]
