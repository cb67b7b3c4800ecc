"""Learning from preferences or labels that are there already: DPO and its family, KTO, ORPO.

Whatever the reference model is needed for is computed here, once per step and without gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

from whet.batch import Tree, pack
from whet.data.order import Cursor
from whet.train.credit import token_column
from whet.train.learner import Learner
from whet.train.ranks import ALONE, Ranks
from whet.train.session import Session
from whet.train.step import Reference, update


def offline(
    session: Session,
    learner: Learner,
    trees: Sequence[Tree],
    *,
    reference: Reference | None,
    cursor: Cursor,
    steps: int,
    budget: int,
    ranks: Ranks = ALONE,
) -> None:
    """Fit the policy to `trees`: pairs, or labelled responses; `reference` is None where no term looks at it."""
    for step in session.steps(steps):
        chosen = [trees[i] for i, _ in cursor.draws_at(step - 1)]
        batch = pack(ranks.share(chosen))
        if reference is not None:
            column = token_column(reference, batch, "logprobs", budget=budget)
            batch = batch.with_columns(token={"reference": column})
        metrics = update(
            {"policy": learner}, batch, budget=budget, ranks=ranks, other=reference.model if reference else None
        )
        session.commit(step, metrics)
