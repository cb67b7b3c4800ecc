"""Held-out measurement: the same numbers as in training, on rows that are never learned from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from whet.batch import TokenBatch, Tree, pack
from whet.losses.terms import Term
from whet.metrics import Metric, merge_all, values
from whet.models.policy import Decoder


def measure(
    model: Decoder,
    terms: Sequence[Term],
    trees: Sequence[Tree],
    *,
    budget: int,
    annotate: Callable[[TokenBatch], TokenBatch] = lambda batch: batch,
    other: Decoder | None = None,
) -> dict[str, float]:
    """What the terms' monitors say of held-out trees, as `eval/…` numbers."""
    found: list[Mapping[str, Metric]] = []
    batch = annotate(pack(trees))
    needs = frozenset[str]().union(*(term.needs for term in terms))
    with torch.no_grad():
        for piece in batch.split(budget):
            views = model(piece, needs, other=other)
            found += [term.monitor(views) for term in terms if term.monitor is not None]
    return {f"eval/{name}": value for name, value in values(merge_all(found)).items()}
