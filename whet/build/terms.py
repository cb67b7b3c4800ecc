"""Named losses → terms. A shelf decides what its functions are given; no method is asked for by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from whet.batch import TokenBatch
from whet.losses import (
    kl_estimator,
    policy_objective,
    preference_loss,
    rating_loss,
    ratio_pooling,
    reward_loss,
    step_loss,
    token_loss,
    value_loss,
    weighting,
)
from whet.losses.terms import (
    Inputs,
    Monitor,
    Over,
    Term,
    Weigh,
    on_entropy,
    on_labels,
    on_pairs,
    on_policy_tokens,
    on_reference,
    on_responses,
    on_tokens,
    on_values,
)
from whet.losses.tokens import looks_at_another
from whet.metrics import Metric
from whet.models.policy import REFERENCE
from whet.registry import Choice, Shelf
from whet.train.config import OnlineConfig
from whet.train.monitors import (
    watch_labels,
    watch_pairs,
    watch_policy,
    watch_ratings,
    watch_scores,
    watch_tokens,
    watch_values,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How the functions of one shelf become terms."""

    shelf: Shelf
    inputs: Inputs
    over: Over
    weigh: Weigh
    monitor: Callable[..., dict[str, Metric]]


def per_pair(batch: TokenBatch) -> Tensor:
    """Weights of pairs in proportion to their column `weight`, which every prompt shares out among its pairs (1/C(K, 2)
    each without ties); they sum to 1."""
    given = _pair_weights(batch)
    return given / given.sum()


def _pair_weights(batch: TokenBatch) -> Tensor:
    return batch.pair.get("weight", torch.ones(batch.pairs.shape[0]))


def per_response(batch: TokenBatch) -> Tensor:
    """Equal weights of the responses that carry a label; rows that are there to be compared with weigh nothing."""
    counts = 1.0 - batch.response.get("mismatched", torch.zeros(batch.rows))
    return counts / counts.sum().clamp(min=1.0)


def per_label(batch: TokenBatch) -> Tensor:
    """Equal weights of all step labels; they sum to 1."""
    return torch.full((batch.label_at.numel(),), 1.0 / max(1, batch.label_at.numel()))


KINDS: Mapping[str, Kind] = {
    kind.shelf.kind: kind
    for kind in (
        Kind(shelf=preference_loss, inputs=on_pairs, over="pair", weigh=per_pair, monitor=watch_pairs),
        Kind(shelf=reward_loss, inputs=on_pairs, over="pair", weigh=per_pair, monitor=watch_scores),
        Kind(shelf=rating_loss, inputs=on_responses, over="response", weigh=per_response, monitor=watch_ratings),
        Kind(shelf=step_loss, inputs=on_labels, over="label", weigh=per_label, monitor=watch_labels),
    )
}


def likelihood(weigh: Choice) -> Term:
    """−log π of counted tokens: supervised fine-tuning."""
    return Term(
        name="nll",
        fn=token_loss.bind("nll"),
        inputs=on_tokens,
        weigh=weighting.bind(weigh.name, **weigh.options),
        over="token",
        needs=frozenset({"logprobs"}),
        monitor=watch_tokens,
    )


def loss_terms(choice: Choice, shelves: tuple[Shelf, ...]) -> tuple[list[Term], bool]:
    """The terms of a named loss with what its method declares beside it, and whether they look at a reference."""
    shelf = next(s for s in shelves if choice.name in s.names())
    kind, declared = KINDS[shelf.kind], shelf.entry(choice.name).declarations
    needs = frozenset(declared.get("needs", ()))
    inside = any(map(looks_at_another, needs))  # the reference is run beside the policy, and says all it is asked
    main = Term(
        name=choice.name,
        fn=shelf.bind(choice.name, **choice.options),
        inputs=kind.inputs,
        weigh=kind.weigh,
        over=kind.over,
        needs=needs if inside else needs - {REFERENCE},
        couples=declared.get("couples") == "step",
        monitor=watching(kind.monitor, shelf.check(choice.name, choice.options)),
    )
    beside = [_beside(name, coef) for name, coef in declared.get("beside", {}).items()]
    return [main, *beside], REFERENCE in needs


def watching(monitor: Callable[..., dict[str, Metric]], options: Mapping[str, Any]) -> Monitor:
    """The monitor with those of a method's options that it asks for."""
    asked = inspect.signature(monitor).parameters
    return partial(monitor, **{name: value for name, value in options.items() if name in asked})


def columns_read(choice: Choice, shelf: Shelf) -> tuple[str, ...]:
    """The data's columns that a loss reads with these options: it declares each with the option that asks for it."""
    options = shelf.check(choice.name, choice.options)
    declared = shelf.entry(choice.name).declarations.get("columns", {})
    return tuple(column for column, option in declared.items() if options[option])


def _beside(name: str, coef: float) -> Term:
    """A token loss on the chosen answers, averaged over their tokens."""
    return Term(
        name=name,
        fn=token_loss.bind(name),
        inputs=on_tokens,
        weigh=chosen_token_mean,
        over="token",
        needs=frozenset(token_loss.entry(name).declarations["needs"]),
        coef=coef,
    )


def chosen_token_mean(batch: TokenBatch) -> Tensor:
    """The mean over the counted tokens of every pair's chosen answer, 0 on all others.

    Pairs have their weights here too; the answer that wins several pairs counts in each.
    """
    chosen = torch.zeros(batch.rows).index_add(0, batch.pairs[:, 0], _pair_weights(batch))
    counts = chosen[batch.row]
    return counts / counts.sum().clamp(min=torch.finfo(counts.dtype).tiny)


def online_terms(config: OnlineConfig) -> tuple[list[Term], list[Term]]:
    """(the policy's terms, the critic's own terms) of the online loop; a shared critic's term is the policy's."""
    weigh = weighting.bind(config.weigh.name, **config.weigh.options)
    policy = [_objective(config, weigh), *_kl(config, weigh), *_entropy(config, weigh)]
    if config.critic is None:
        return policy, []
    values = Term(
        name=config.critic.loss.name,
        fn=value_loss.bind(config.critic.loss.name, **config.critic.loss.options),
        inputs=on_values,
        weigh=weighting.bind("token_mean"),
        over="token",
        needs=frozenset({"value"}),
        coef=config.critic.coef if config.critic.trunk == "shared" else 1.0,
        monitor=watch_values,
    )
    return ([*policy, values], []) if config.critic.trunk == "shared" else (policy, [values])


def advantage_counts(batch: TokenBatch) -> Tensor:
    """The tokens whose advantage is not 0: what an objective learns from, unless it says otherwise."""
    return batch.token["advantage"] != 0


DEAD = "an_advantage_of_0_teaches_nothing"
"""The law that lets a token without an advantage go; an objective that breaks it declares so."""


def _objective(config: OnlineConfig, weigh: Weigh) -> Term:
    inputs = on_policy_tokens(ratio_pooling.get(config.ratio.name))
    breaks = policy_objective.entry(config.objective.name).declarations.get("breaks", {})
    return Term(
        name=config.objective.name,
        fn=policy_objective.bind(config.objective.name, **config.objective.options),
        inputs=inputs,
        weigh=weigh,
        over="token",
        needs=frozenset({"logprobs"}),
        monitor=watching(partial(watch_policy, inputs=inputs), config.objective.options),
        alive=None if DEAD in breaks else advantage_counts,
    )


def _kl(config: OnlineConfig, weigh: Weigh) -> list[Term]:
    if config.kl.coef == 0 or config.kl.place != "loss":
        return []
    return [
        Term(
            name="kl",
            fn=kl_estimator.get(config.kl.estimator.name),
            inputs=on_reference,
            weigh=weigh,
            over="token",
            needs=frozenset({"logprobs"}),
            coef=config.kl.coef,
        )
    ]


def _entropy(config: OnlineConfig, weigh: Weigh) -> list[Term]:
    if config.entropy == 0:
        return []
    return [
        Term(
            name="entropy",
            fn=token_loss.bind("entropy_bonus"),
            inputs=on_entropy,
            weigh=weigh,
            over="token",
            needs=frozenset({"entropy"}),
            coef=config.entropy,
        )
    ]


def kl_cost(config: OnlineConfig) -> Callable[[Tensor], Tensor] | None:
    """KL in the reward: log π − log π_ref per token → cost per token, or None where KL acts elsewhere."""
    if config.kl.coef == 0 or config.kl.place != "reward":
        return None
    estimate, coef = kl_estimator.get(config.kl.estimator.name), config.kl.coef
    return lambda log_ratio: coef * estimate(log_ratio)
