"""Supervised fine-tuning: the likelihood of what the assistant wrote, token for token.

Leaves out packing switches (the forest needs no padding), NEFTune and curricula.
"""

from __future__ import annotations

from collections.abc import Sequence

from whet.batch import Tree, pack
from whet.data.order import Cursor
from whet.train.learner import Learner
from whet.train.ranks import ALONE, Ranks
from whet.train.session import Session
from whet.train.step import update
from whet.types import Rollout


def supervised(
    session: Session,
    learner: Learner,
    examples: Sequence[Rollout],
    *,
    cursor: Cursor,
    steps: int,
    budget: int,
    ranks: Ranks = ALONE,
    skip_dead: bool = True,
) -> None:
    """Fit the policy to `examples`, `cursor.batch` of them per optimizer step."""
    for step in session.steps(steps):
        chosen = [examples[i] for i, _ in cursor.draws_at(step - 1)]
        batch = pack([Tree(rollouts=[example]) for example in ranks.share(chosen)])
        metrics = update({"policy": learner}, batch, budget=budget, ranks=ranks, skip_dead=skip_dead)
        session.commit(step, metrics)
