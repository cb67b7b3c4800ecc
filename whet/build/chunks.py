"""A dataset of pairs in chunks, easy ones first: the order in which sDPO learns (Kim et al. 2024, arXiv:2403.19270).

    ease of a pair = log π(chosen) − log π(rejected)        π: the model that learning begins with

Pairs that the model has in order by a wide margin are easy; the paper orders whole datasets, by how many of their pairs
a model has in order. The chunks are equally large to one row, and within a chunk rows keep their order.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from whet.batch import Tree, pack
from whet.build import data, models
from whet.config import load
from whet.data import dataset
from whet.data.config import DataConfig
from whet.data.numbers import as_number
from whet.data.rows import Row, RowFault
from whet.errors import DataError
from whet.lab.data import write_rows
from whet.losses.terms import sum_by_row
from whet.models.config import ModelConfig
from whet.models.policy import Decoder
from whet.models.tokenizer import renderer_of
from whet.train.credit import token_column
from whet.types import Ranking
from whet.words import nearest

AT_ONCE: Final = 256
"""Rankings whose log-probabilities are computed from one packed batch."""


def chunks(
    folder: Path,
    *,
    live: Any,
    objects: Mapping[str, Any],
    model: str,
    data: Mapping[str, Any],
    chunks: int,
    by: str,
    seed: int,
    token_budget: int = 8192,
) -> dict[str, Any]:
    """Write chunk_1.jsonl, the easiest rows, to chunk_N.jsonl; `by` is model, given, or the name of a column.

    Numbers: rows `kept` and `left_out` (too long, or of two equal answers), and by the model the share of pairs that it
    has in order in each chunk, `accuracy_1` to `accuracy_N`.
    """
    policy = models.policy(ModelConfig(path=model), seed=seed).freeze()
    rows, found = _read(load(DataConfig, defaults={"data": dict(data)}).value, policy, objects, live.say)
    if len(found) < chunks:
        raise DataError(f"{len(found)} rows are fewer than the {chunks} chunks asked: set chunks lower")
    ease = _ease(found, rows, by, policy, token_budget)
    places = _split(ease, chunks)
    for number, some in enumerate(places, 1):
        write_rows(folder / f"chunk_{number}.jsonl", ({**rows[found[i].id].columns, "id": found[i].id} for i in some))
    numbers: dict[str, float] = {"kept": len(found), "left_out": len(rows) - len(found)}
    if by == "model":
        for number, some in enumerate(places, 1):
            numbers[f"accuracy_{number}"] = sum(ease[i] > 0 for i in some) / len(some)
    live.say("chunks: " + ", ".join(f"{name} {number:.4g}" for name, number in numbers.items()))
    files = {f"chunk_{number}": f"chunk_{number}.jsonl" for number in range(1, chunks + 1)}
    return {"files": files, "numbers": numbers}


def _read(
    config: DataConfig, policy: Decoder, objects: Mapping[str, Any], say: Callable[[str], None]
) -> tuple[dict[str, Row], list[Ranking]]:
    """All rows by their ids, and those that can be learned from."""
    rows = data.rows(config, objects)
    found, report = dataset.rankings(rows, renderer_of(policy), config=config)
    if len(report.lines()) > 1:
        say(f"data: {'; '.join(report.lines())}")
    return {dataset.name_of(row): row for row in rows}, found


def _ease(found: Sequence[Ranking], rows: Mapping[str, Row], by: str, policy: Decoder, budget: int) -> list[float]:
    """How easy each ranking is."""
    if by == "given":
        return [-float(place) for place in range(len(found))]
    if by == "model":
        parts = [found[start : start + AT_ONCE] for start in range(0, len(found), AT_ONCE)]
        return [ease for part in parts for ease in margins(part, policy, budget=budget)]
    try:
        return [_number(rows[one.id], by) for one in found]
    except RowFault as fault:
        raise DataError(str(fault)) from None


def _number(row: Row, name: str) -> float:
    if name not in row.columns:
        raise RowFault(
            f"{row.where} has no column {name!r}{nearest(name, row.columns)} to order by: give by=model, by=given, or "
            "a column of numbers that every row has"
        )
    try:
        return as_number(row.columns[name], name)
    except RowFault as fault:
        raise RowFault(f"{row.where} {fault}") from None


def margins(found: Sequence[Ranking], policy: Decoder, *, budget: int) -> list[float]:
    """The mean over a ranking's pairs of how much likelier the better answer is, in nats of the whole answer."""
    batch = pack([Tree(rollouts=one.rollouts, pairs=one.better()) for one in found])
    with torch.no_grad():
        sums = sum_by_row(token_column(policy, batch, "logprobs", budget=budget).double(), batch)
    better, worse = sums[batch.pairs].unbind(dim=1)
    each = np.split((better - worse).numpy(), np.cumsum([len(one.better()) for one in found])[:-1])
    return [float(part.mean()) for part in each]


def _split(ease: Sequence[float], chunks: int) -> list[list[int]]:
    """Places by chunk, easiest chunk first, of equal size to one; in each in their own order.

    >>> _split([0.1, 3.0, -1.0, 2.0, 0.5], 2)
    [[1, 3], [0, 2, 4]]
    """
    order = sorted(range(len(ease)), key=lambda place: -ease[place])
    ends = [len(ease) * number // chunks for number in range(chunks + 1)]
    return [sorted(order[start:end]) for start, end in itertools.pairwise(ends)]
