"""A loss is a sum of terms over declared inputs: read this page first.

    loss = Σ_terms coef · Σ_items weight[item] · fn(inputs)[item]

A term's function is pure: it gets tensors or a `Responses` view, never a model, and returns one unreduced value per
item. Weights are made once per optimizer step over everything that is learned from, so below that only sums are taken
and any cut into micro-batches gives the same gradient. How a function is called depends on the shelf it stands on,
never on its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from whet.batch import TokenBatch
from whet.errors import DataError
from whet.metrics import Metric
from whet.types import Reduce

Over = Literal["token", "response", "pair", "label"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Responses:
    """What a sequence-level formula sees of some responses; every field has one entry per response.

    `policy` and `anchor` are SUMMED log-probabilities of the counted tokens under the trained policy and under the
    model it is compared with (None where the method has no reference); `length` counts those tokens. `score` is the
    scalar head's output. `stat` are summed vocabulary statistics, `col` the data's own columns.

    >>> r = Responses(policy=torch.tensor([-10.0]), anchor=torch.tensor([-12.0]), length=torch.tensor([4.0]))
    >>> r.logratio("sum").item(), r.logratio("mean").item(), r.logprob("mean").item()
    (2.0, 0.5, -2.5)
    """

    length: Tensor
    policy: Tensor | None = None
    anchor: Tensor | None = None
    score: Tensor | None = None
    group: Tensor | None = None
    stat: Mapping[str, Tensor] = field(default_factory=dict)
    col: Mapping[str, Tensor] = field(default_factory=dict)

    def logprob(self, reduce: Reduce) -> Tensor:
        """log π(y|x), summed over counted tokens or averaged over them."""
        assert self.policy is not None, "this view has no policy log-probabilities"
        return self.policy if reduce == "sum" else self.policy / self.length

    def logratio(self, reduce: Reduce) -> Tensor:
        """log π(y|x) − log anchor(y|x), summed or averaged."""
        assert self.policy is not None and self.anchor is not None, "this view has no anchor"
        ratio = self.policy - self.anchor
        return ratio if reduce == "sum" else ratio / self.length

    def scores(self) -> Tensor:
        """The scalar head's outputs."""
        assert self.score is not None, "this view has no head scores"
        return self.score

    def column(self, name: str) -> Tensor:
        """One of the data's own columns."""
        if name not in self.col:
            have = ", ".join(sorted(self.col)) or "none"
            raise DataError(f"this loss reads the column {name!r}, which the data does not have (it has: {have})")
        return self.col[name]

    def take(self, rows: Tensor) -> Responses:
        """The same view of a subset of responses."""

        def pick(x: Tensor | None) -> Tensor | None:
            return None if x is None else x[rows]

        return Responses(
            length=self.length[rows],
            policy=pick(self.policy),
            anchor=pick(self.anchor),
            score=pick(self.score),
            group=pick(self.group),
            stat={k: v[rows] for k, v in self.stat.items()},
            col={k: v[rows] for k, v in self.col.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """A batch with the outputs of one forward: `token` `[N]` (logprobs, entropy, value, statistics), `response` `[R]`
    (score), `label` `[L]` (step_score). What has no gradient stands in the batch's own columns."""

    batch: TokenBatch
    token: Mapping[str, Tensor] = field(default_factory=dict)
    response: Mapping[str, Tensor] = field(default_factory=dict)
    label: Mapping[str, Tensor] = field(default_factory=dict)

    def summed(self) -> dict[str, Tensor]:
        """Everything a sequence-level loss may differentiate, one value per response: the leaves of a coupled loss."""
        sums = {f"token.{name}": sum_by_row(value, self.batch) for name, value in self.token.items()}
        return sums | {f"response.{name}": value for name, value in self.response.items()}

    def responses(self, summed: Mapping[str, Tensor] | None = None) -> Responses:
        """The sequence-level view; `summed` replaces this forward's numbers (the leaves of a coupled loss)."""
        numbers = self.summed() if summed is None else summed
        columns = self.batch.token
        stats = {k.removeprefix("token."): v for k, v in numbers.items() if k.startswith("token.")}
        return Responses(
            length=self.batch.length.to(torch.float32),
            policy=stats.pop("logprobs", None),
            anchor=sum_by_row(columns["reference"], self.batch) if "reference" in columns else None,
            score=numbers.get("response.score"),
            group=self.batch.group,
            stat=stats,
            col=self.batch.response,
        )


def sum_by_row(value: Tensor, batch: TokenBatch) -> Tensor:
    """Σ over the counted tokens of each response, `[N]` → `[R]`.

    >>> from whet.batch import Tree, pack
    >>> from whet.types import Rollout
    >>> r = Rollout(task_id="t", tokens=(1, 2, 3), mask=(False, True, True), source=("prompt", "sampled", "sampled"))
    >>> sum_by_row(torch.tensor([1.0, 2.0]), pack([Tree(rollouts=(r,))])).tolist()
    [3.0]
    """
    return torch.zeros(batch.rows, dtype=value.dtype, device=value.device).index_add(0, batch.row, value)


Inputs = Callable[..., tuple[Tensor, ...] | tuple[Responses, ...]]
"""`inputs(views)`; those of a sequence-level shelf also take `summed`, the leaves of a coupled loss."""
Monitor = Callable[[Views], dict[str, Metric]]
Weigh = Callable[[TokenBatch], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One summand of a loss.

    `fn(*inputs(views))` gives one value per item of `over`; `weigh(batch)` gives the items' weights, made once per
    optimizer step. `monitor(views)` measures what people watch, without gradient. `needs` names the outputs its forward
    must compute. `couples` is true where one response's value depends on others of the step (KTO's reference point).
    `alive(batch)` marks the items whose value or gradient may be other than 0 whatever the model says; None is all.
    """

    name: str
    fn: Callable[..., Tensor]
    inputs: Inputs
    weigh: Weigh
    over: Over
    needs: frozenset[str]
    coef: float = 1.0
    role: str = "policy"
    couples: bool = False
    monitor: Monitor | None = None
    alive: Callable[[TokenBatch], Tensor] | None = None

    def values(self, views: Views) -> Tensor:
        """The unreduced values, one per item."""
        return self.fn(*self.inputs(views))


def log_ratio(views: Views) -> Tensor:
    """log π − log π_old per counted token; with one update per batch the old policy is the detached new one."""
    logprobs = views.token["logprobs"]
    old = views.batch.token.get("old")
    return logprobs - (logprobs.detach() if old is None else old)


def on_policy_tokens(pooling: Callable[..., Tensor]) -> Callable[[Views], tuple[Tensor, ...]]:
    """(pooled log-ratio, advantage) per counted token: what a policy objective gets."""

    def inputs(views: Views) -> tuple[Tensor, ...]:
        ratio = pooling(log_ratio(views), views.batch.row, views.batch.length)
        return ratio, views.batch.token["advantage"]

    return inputs


def on_tokens(views: Views) -> tuple[Tensor, ...]:
    """(log-probability) per counted token."""
    return (views.token["logprobs"],)


def on_reference(views: Views) -> tuple[Tensor, ...]:
    """(log π − log π_ref) per counted token."""
    return (views.token["logprobs"] - views.batch.token["reference"],)


def on_entropy(views: Views) -> tuple[Tensor, ...]:
    """(entropy) per counted token."""
    return (views.token["entropy"],)


def on_values(views: Views) -> tuple[Tensor, ...]:
    """(value, value before the update, target) per counted token."""
    return views.token["value"], views.batch.token["value"], views.batch.token["target"]


def on_pairs(views: Views, summed: Mapping[str, Tensor] | None = None) -> tuple[Responses, ...]:
    """(chosen, rejected) views of the batch's pairs; the pair columns stand in `col` of both."""
    responses = views.responses(summed)
    chosen, rejected = views.batch.pairs.unbind(dim=1)
    return _with_pair_columns(responses.take(chosen), views), _with_pair_columns(responses.take(rejected), views)


def _with_pair_columns(responses: Responses, views: Views) -> Responses:
    return replace(responses, col={**responses.col, **views.batch.pair})


def on_responses(views: Views, summed: Mapping[str, Tensor] | None = None) -> tuple[Responses, ...]:
    """(responses) view of every row."""
    return (views.responses(summed),)


def on_labels(views: Views) -> tuple[Tensor, ...]:
    """(head output, label) per step label."""
    return views.label["step_score"], views.batch.label["label"]
