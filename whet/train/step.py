"""One optimizer step from a batch: the only place that cuts micro-batches and knows about ranks.

Weights are made once, over the whole step and all ranks; below that every number is a sum, so any cut into pieces and
any number of ranks gives the same gradient. Nothing is updated unless every loss and gradient is finite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from whet.batch import TokenBatch
from whet.errors import NumericsError
from whet.losses.terms import Term, Views
from whet.metrics import Mean, Metric, Sum, merge_all
from whet.models.policy import Decoder
from whet.train.learner import Learner
from whet.train.ranks import ALONE, Ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A model that is only looked at: one of its own, or the policy with its adapter off."""

    model: Decoder
    adapter_off: bool = False

    def __call__(self, batch: TokenBatch, needs: frozenset[str], *, temperature: float = 1.0) -> Views:
        with self.model.adapter_off() if self.adapter_off else nullcontext(), torch.no_grad():
            return self.model(batch, needs, temperature=temperature)


def update(
    learners: Mapping[str, Learner],
    batch: TokenBatch,
    *,
    budget: int,
    temperature: float = 1.0,
    ranks: Ranks = ALONE,
    other: Decoder | None = None,
) -> dict[str, Metric]:
    """Back-propagate every learner's terms over the batch and take one optimizer step each; returns merged metrics.

    `budget` is the most tokens of one forward pass. `other` is the reference that two-model statistics look at.
    """
    if ranks.total(float(batch.rows)) == 0:
        return {"skipped": Sum(1.0)}
    found: list[dict[str, Metric]] = []
    for role, learner in learners.items():
        weighted = with_weights(batch, learner.terms, ranks)
        pieces = weighted.split(budget)
        learner.optimizer.zero_grad(set_to_none=True)
        leaves, coupled = coupled_gradients(
            role, learner, weighted, pieces, temperature=temperature, ranks=ranks, other=other
        )
        found.append(coupled)
        for piece in pieces:
            views = learner.model(piece, learner.needs, temperature=temperature, other=other)
            values: dict[str, Tensor] = {}
            for term in learner.terms:
                if term.name not in leaves:
                    values[term.name] = term.fn(*term.inputs(views))
            found.append(_backward(role, learner.terms, views, values, leaves))
        ranks.sum_gradients(learner.parameters)
    losses = {name for role, learner in learners.items() for name in _losses(role, learner)}
    metrics = _per_step(ranks.merge(merge_all(found)), losses)
    norms = {role: _clipped(learner) for role, learner in learners.items()}
    _refuse_nonfinite(learners, {name: metrics[name] for name in metrics if name in losses}, norms)
    for role, learner in learners.items():
        metrics |= {f"{role}/grad_norm": Mean.of(norms[role]), f"{role}/lr": Mean.of(learner.tick())}
    return metrics


def _losses(role: str, learner: Learner) -> list[str]:
    """The names of a learner's losses among the metrics; all others are what is watched."""
    return [f"{role}/loss", *(f"loss/{term.name}" for term in learner.terms)]


def _per_step(metrics: Mapping[str, Metric], losses: Set[str]) -> dict[str, Metric]:
    """Losses are summed over pieces and ranks, but averaged over the optimizer steps they are later merged with."""
    return {
        name: Mean.of(metric.value()) if isinstance(metric, Sum) and name in losses else metric
        for name, metric in metrics.items()
    }


def with_weights(batch: TokenBatch, terms: Sequence[Term], ranks: Ranks) -> TokenBatch:
    """The batch with each term's item weights as a column, and each row's place in the step as `step_row`."""
    everyone = ranks.gather_rows(batch)
    axes: dict[str, dict[str, Tensor]] = {"token": {}, "response": {}, "pair": {}, "label": {}}
    for term in terms:
        axes[term.over][f"weight/{term.name}"] = _own(term.weigh(everyone), term.over, batch, ranks)
    axes["response"]["step_row"] = torch.arange(batch.rows)
    return replace(
        batch,
        token={**batch.token, **axes["token"]},
        response={**batch.response, **axes["response"]},
        pair={**batch.pair, **axes["pair"]},
        label={**batch.label, **axes["label"]},
    )


def _own(weights: Tensor, over: str, batch: TokenBatch, ranks: Ranks) -> Tensor:
    """This rank's slice of weights made over all ranks."""
    counts = {"token": batch.row, "response": batch.last, "pair": batch.pairs, "label": batch.label_at}
    count = counts[over].shape[0]
    start = ranks.offset(count)
    return weights[start : start + count]


def _backward(
    role: str,
    terms: Sequence[Term],
    views: Views,
    values: Mapping[str, Tensor],
    leaves: Mapping[str, Mapping[str, Tensor]],
) -> dict[str, Metric]:
    """Sum one piece's weighted values and the surrogates of coupled terms, back-propagate; the piece's metrics."""
    loss, surrogate = torch.zeros(()), torch.zeros(())
    metrics: dict[str, Metric] = {}
    for term in terms:
        if term.name in leaves:
            surrogate = surrogate + _surrogate(views, leaves[term.name])
            continue
        total = (_weights(term, views.batch, values[term.name]) * values[term.name]).sum()
        loss = loss + term.coef * total
        metrics[f"loss/{term.name}"] = Sum(float(total.detach()))
    if (loss + surrogate).requires_grad:
        (loss + surrogate).backward()
    metrics[f"{role}/loss"] = Sum(float(loss.detach()))
    with torch.no_grad():
        watched = [term.monitor(views) for term in terms if term.monitor is not None]
    return merge_all([metrics, *watched])


def _weights(term: Term, batch: TokenBatch, values: Tensor) -> Tensor:
    columns = {"token": batch.token, "response": batch.response, "pair": batch.pair, "label": batch.label}
    weights = columns[term.over][f"weight/{term.name}"]
    assert values.shape == weights.shape, f"{term.name} returned {tuple(values.shape)} for {tuple(weights.shape)} items"
    return weights


def coupled_gradients(
    role: str,
    learner: Learner,
    batch: TokenBatch,
    pieces: Sequence[TokenBatch],
    *,
    temperature: float,
    ranks: Ranks,
    other: Decoder | None,
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Metric]]:
    """Derivatives of every coupled term with respect to each response's own numbers, over the whole step; its values.

    A first pass without gradient gathers those numbers, the pure loss runs once on them as leaves; the second pass
    back-propagates the derivatives. One piece on one rank needs no first pass: its loss sees the whole step anyway.
    """
    coupled = [term for term in learner.terms if term.couples]
    if not coupled or (len(pieces) == 1 and ranks.size == 1):
        return {}, {}
    with torch.no_grad():
        parts = [learner.model(p, learner.needs, temperature=temperature, other=other).summed() for p in pieces]
    gathered = ranks.gather_columns(_in_row_order(pieces, parts))
    everyone = Views(batch=ranks.gather_rows(batch))
    start = ranks.offset(batch.rows)
    out: dict[str, dict[str, Tensor]] = {}
    worth: dict[str, float] = {}
    for term in coupled:
        numbers = {name: value.detach().clone().requires_grad_() for name, value in gathered.items()}
        values = term.fn(*term.inputs(everyone, numbers))
        weights = (everyone.batch.pair if term.over == "pair" else everyone.batch.response)[f"weight/{term.name}"]
        total = (weights * values).sum()
        (term.coef * total).backward()
        worth |= {f"loss/{term.name}": float(total.detach())}
        worth[f"{role}/loss"] = worth.get(f"{role}/loss", 0.0) + term.coef * float(total.detach())
        out[term.name] = {
            name: (torch.zeros_like(leaf) if leaf.grad is None else leaf.grad)[start : start + batch.rows]
            for name, leaf in numbers.items()
        }
    return out, {name: Sum(value / ranks.size) for name, value in worth.items()}


def _in_row_order(pieces: Sequence[TokenBatch], parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The pieces' numbers per response in the order of the batch's rows; a rank without rows has none."""
    if not pieces:
        return {}
    order = torch.cat([piece.response["step_row"] for piece in pieces]).argsort()
    return {name: torch.cat([part[name] for part in parts]).cpu()[order] for name in parts[0]}


def _surrogate(views: Views, leaves: Mapping[str, Tensor]) -> Tensor:
    """Σ derivative · number: a sum whose gradient is the coupled loss's."""
    rows = views.batch.response["step_row"]
    return sum(
        ((leaves[name].to(value.device)[rows] * value).sum() for name, value in views.summed().items()), torch.zeros(())
    )


def _clipped(learner: Learner) -> float:
    with_gradient = [p for p in learner.parameters if p.grad is not None]
    return float(torch.nn.utils.clip_grad_norm_(with_gradient, learner.clip)) if with_gradient else 0.0


def _refuse_nonfinite(
    learners: Mapping[str, Learner], losses: Mapping[str, Metric], norms: Mapping[str, float]
) -> None:
    """Stop before anything is updated, naming the term or the parameters that are not finite."""
    bad = [name for name, loss in losses.items() if not math.isfinite(loss.value() or 0.0)]
    for role, norm in norms.items():
        if not math.isfinite(norm):
            learner = learners[role]
            names = [
                n for n, p in learner.model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()
            ]
            bad += [
                f"gradient of {role} ({names[0]} and {len(names) - 1} more)" if names else f"gradient norm of {role}"
            ]
    if bad:
        for learner in learners.values():
            learner.optimizer.zero_grad(set_to_none=True)
        raise NumericsError(
            f"not finite: {', '.join(bad)}; nothing was updated; lower optim.lr, or look at this step's data"
        )
