"""Learning by sampling: sample, score, learn.

PPO, GRPO and their relatives are this loop with other arguments. It leaves out asynchronous sampling, replay and
filters; groups whose rewards are all equal stay in the batch and in its denominators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from whet.advantages.returns import Returns
from whet.batch import TokenBatch
from whet.metrics import Metric, merge_all
from whet.models.policy import Decoder
from whet.train.config import OnlineConfig
from whet.train.credit import (
    annotate,
    compares,
    credit,
    own_groups,
    pack_groups,
    parts,
    refuse_stale,
)
from whet.train.learner import Learner
from whet.train.ranks import ALONE, Ranks
from whet.train.record import group_metrics
from whet.train.session import Session
from whet.train.step import Reference, update
from whet.types import Group, Source


def online(
    session: Session,
    learners: Mapping[str, Learner],
    source: Source,
    *,
    config: OnlineConfig,
    advantage: Callable[[Returns], Tensor],
    kl_cost: Callable[[Tensor], Tensor] | None = None,
    reference: Reference | None = None,
    critic: Decoder | None = None,
    record: Callable[[int, Sequence[Group], TokenBatch], list[dict[str, Any]]],
    ranks: Ranks = ALONE,
) -> None:
    """Improve `learners["policy"]` on what `source` samples and scores.

    `reference` is there where a term or the KL cost looks at it, `critic` (the model that values, which may be the
    policy itself) where the advantage needs values. `kl_cost` turns log π − log π_ref into a cost per token. Every rank
    samples and credits the whole step, which is the same on all of them, and back-propagates its own groups.
    """
    budget, temperature = config.token_budget, config.sampling.temperature
    policy, truncates = learners["policy"].model, config.sampling.truncates
    for step in session.steps(config.steps):
        groups = source.next(step)
        batch, left_out = pack_groups(groups, siblings=compares(config.advantage.name))
        warming = config.critic is not None and step <= config.critic.warmup
        active = {role: learner for role, learner in learners.items() if not (warming and role == "policy")}
        several = config.updates * config.minibatches > 1
        batch = annotate(
            batch,
            policy=policy,
            critic=critic,
            reference=reference,
            old=several and (not warming or kl_cost is not None),
            budget=budget,
            temperature=temperature,
        )
        batch = credit(batch, advantage, kl_cost=kl_cost, whitened=config.whiten)
        found: list[dict[str, Metric]] = []
        for part in parts(batch, updates=config.updates, minibatches=config.minibatches, seed=config.seed, step=step):
            found.append(
                update(
                    active,
                    own_groups(part, ranks),
                    budget=budget,
                    temperature=temperature,
                    ranks=ranks,
                    other=reference.model if reference else None,
                    skip_dead=config.skip_dead,
                )
            )
        refuse_stale(found, policy)
        source.observe(groups)
        metrics = merge_all([*found, group_metrics(groups, batch, left_out, truncates=truncates)])
        session.commit(step, metrics, record(step, groups, batch))
