"""Learning from preferences or labels that are there already: DPO and its family, KTO, ORPO.

What the reference model says of a row is computed without gradient: before the first step where rows are seen several
times (`whet.train.reference`), else in the step that sees it.
"""

from __future__ import annotations

from collections.abc import Sequence

from whet.batch import Tree, pack
from whet.data.order import Cursor
from whet.train.learner import Learner
from whet.train.ranks import ALONE, Ranks
from whet.train.reference import OfflineReference
from whet.train.session import Session
from whet.train.step import update


def offline(
    session: Session,
    learner: Learner,
    trees: Sequence[Tree],
    *,
    reference: OfflineReference | None,
    cursor: Cursor,
    steps: int,
    budget: int,
    ranks: Ranks = ALONE,
    skip_dead: bool = True,
) -> None:
    """Fit the policy to `trees`: pairs, or labelled responses; `reference` is None where no term looks at it."""
    if reference is not None:
        reference.prepare(list(zip(trees, cursor.visits(steps), strict=True)), pause=session.pause)
    for step in session.steps(steps):
        chosen = ranks.share([trees[i] for i in cursor.batch_at(step - 1)])
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
        session.commit(step, metrics)
