"""Learning from preferences or labels: DPO and its family, KTO, ORPO, on a dataset or on answers of the policy itself.

What the reference model says of a row is computed without gradient: before the first step where rows are seen several
times (`whet.train.reference`), else in the step that sees it.
"""

from __future__ import annotations

from whet.batch import pack
from whet.metrics import merge
from whet.train.learner import Learner
from whet.train.moving import MovingReference
from whet.train.ranks import ALONE, Ranks
from whet.train.reference import OfflineReference
from whet.train.session import Session
from whet.train.step import update
from whet.train.trees import TreeSource


def offline(
    session: Session,
    learner: Learner,
    source: TreeSource,
    *,
    reference: OfflineReference | None,
    steps: int,
    budget: int,
    moving: MovingReference | None = None,
    ranks: Ranks = ALONE,
    skip_dead: bool = True,
) -> None:
    """Fit the policy to the trees of `source`: pairs, labelled responses, rankings; `reference` is None where no term
    looks at it, and `moving` makes it follow the policy."""
    if reference is not None:
        reference.prepare(source.visits(steps), pause=session.pause)
    for step in session.steps(steps):
        drawn = source.next(step)
        chosen = ranks.share(drawn.trees)
        batch = pack(chosen)
        if reference is not None:
            batch = reference.annotate(batch, chosen)
        metrics = update(
            {"policy": learner},
            batch,
            budget=budget,
            ranks=ranks,
            other=reference.other if reference else None,
            skip_dead=skip_dead,
        )
        if moving is not None:
            moving.follow(step)
        session.commit(step, merge(metrics, drawn.metrics), drawn.rollouts)
