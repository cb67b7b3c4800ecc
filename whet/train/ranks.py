"""The processes that learn together: replicated weights, summed gradients, denominators over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from whet.batch import TokenBatch
from whet.metrics import Metric, from_state, merge_all, to_state

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ranks:
    """One process among `size`. Every sum below is over all of them; alone, nothing is communicated.

    >>> ALONE.total(3.0), ALONE.gather_columns({"a": torch.tensor([1.0, 2.0])})["a"].tolist()
    (3.0, [1.0, 2.0])
    """

    rank: int = 0
    size: int = 1

    def total(self, value: float) -> float:
        """Σ over ranks of one number (float64)."""
        if self.size == 1:
            return value
        box = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(box)
        return float(box.item())

    def share(self, items: Sequence[T]) -> list[T]:
        """This rank's contiguous part of a step's items.

        >>> Ranks(rank=1, size=2).share([1, 2, 3])
        [3]
        """
        each = -(-len(items) // self.size)
        return list(items[self.rank * each : (self.rank + 1) * each])

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Σ over ranks of every gradient, in place; a rank without one takes part with zeros."""
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter, dtype=parameter.grad_dtype)
            dist.all_reduce(parameter.grad)

    def gather_columns(self, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every rank's columns, in rank order; a rank that has nothing to learn from in this step has none."""
        return dict(columns) if self.size == 1 else _joined([part for part in self._gathered(columns) if part])

    def offset(self, count: int) -> int:
        """Where this rank's `count` items start in a gathered column."""
        return 0 if self.size == 1 else sum(self._gathered(count)[: self.rank])

    def gather_rows(self, batch: TokenBatch) -> TokenBatch:
        """The step's responses of all ranks that have any: rows, pairs, lengths, columns; no tokens and no layout."""
        if self.size == 1:
            return batch
        parts: list[TokenBatch] = [part for part in self._gathered(batch) if part.rows]
        first_row, first_unit, first_group = 0, 0, 0
        rows, pairs, units, groups, label_rows = [], [], [], [], []
        for part in parts:
            label_rows.append(part.label_row + first_row)
            rows.append(part.row + first_row)
            pairs.append(part.pairs + first_row)
            units.append(part.unit + first_unit)
            groups.append(part.group + first_group)
            first_row, first_unit = first_row + part.rows, first_unit + int(part.unit.max()) + 1
            first_group += int(part.group.max()) + 1
        nothing = torch.zeros(0, dtype=torch.long)
        return TokenBatch(
            tokens=nothing,
            positions=nothing,
            segment=nothing,
            parent=nothing,
            previous=nothing,
            counted=torch.cat([part.counted for part in parts]),
            row=torch.cat(rows),
            last=torch.cat([part.last for part in parts]),
            leaf=torch.cat([part.leaf for part in parts]),
            group=torch.cat(groups),
            unit=torch.cat(units),
            pairs=torch.cat(pairs),
            label_at=torch.cat([part.label_at for part in parts]),
            label_row=torch.cat(label_rows),
            token=_joined([part.token for part in parts]),
            response=_joined([part.response for part in parts]),
            pair=_joined([part.pair for part in parts]),
            label=_joined([part.label for part in parts]),
        )

    def merge(self, metrics: Mapping[str, Metric]) -> dict[str, Metric]:
        """Every rank's metrics, merged exactly."""
        if self.size == 1:
            return dict(metrics)
        states = self._gathered({name: to_state(value) for name, value in metrics.items()})
        return merge_all([{name: from_state(value) for name, value in state.items()} for state in states])

    def _gathered(self, value: Any) -> list[Any]:
        out: list[Any] = [None] * self.size
        dist.all_gather_object(out, value)
        return out


ALONE = Ranks()


def _joined(columns: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in columns]) for name in columns[0]}
