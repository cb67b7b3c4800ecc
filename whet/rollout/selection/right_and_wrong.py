"""Right answers against wrong ones: iterative RPO's pairs (Pang et al. 2024, arXiv:2404.19733).

    {(i, j): value_i > 0 ≥ value_j}, at most `pairs` of them

For values of a verifier, 1 or 0 (or −1). Right and wrong answers are each put in an order by chance and gone round in
step, so that no answer is used again before all of its kind are; a pair never comes twice. No pair where all answers
are right, or all wrong: the round learns nothing of what the model always or never does.
"""

from __future__ import annotations

from random import Random
from typing import Annotated

from pydantic import Field

from whet.rollout.feedback import differ, judged, value
from whet.rollout.selection import selection
from whet.types import Group


@selection
def right_and_wrong(group: Group, random: Random, *, pairs: Annotated[int, Field(gt=0)] = 10) -> list[tuple[int, int]]:
    """At most `pairs` (right, wrong) of a prompt.

    >>> from whet.rollout.selection.example import of_rewards
    >>> sorted(right_and_wrong(of_rewards(1.0, 0.0, 1.0, 0.0), Random(0)))
    [(0, 1), (0, 3), (2, 1), (2, 3)]
    >>> len(right_and_wrong(of_rewards(1.0, 0.0, 1.0, 0.0), Random(0), pairs=3))
    3
    """
    places = judged(group)
    right = sorted((i for i in places if value(group, i) > 0), key=lambda _: random.random())
    wrong = sorted((i for i in places if value(group, i) <= 0), key=lambda _: random.random())
    both = [(i, wrong[(at + turn) % len(wrong)]) for turn in range(len(wrong)) for at, i in enumerate(right)]
    return [(i, j) for i, j in both if differ(group, i, j)][:pairs]
