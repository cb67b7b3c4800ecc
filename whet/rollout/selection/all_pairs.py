"""Every two answers of different value: all that a ranking says (Ouyang et al. 2022, arXiv:2203.02155, section 3.5).

    {(i, j): value_i > value_j}

The pairs of one prompt share its weight, so that no prompt counts more for having more of them. Pairs of a prompt are
not independent: K answers are K facts, not K(K − 1)/2.
"""

from __future__ import annotations

from random import Random

from whet.rollout.feedback import differ, judged, value
from whet.rollout.selection import selection
from whet.types import Group


@selection
def all_pairs(group: Group, random: Random) -> list[tuple[int, int]]:
    """All (better, worse) of a prompt.

    >>> from whet.rollout.selection.example import of_rewards
    >>> all_pairs(of_rewards(0.0, 2.0, 0.0, 1.0), Random(0))
    [(1, 0), (1, 2), (1, 3), (3, 0), (3, 2)]
    """
    places = judged(group)
    return [(i, j) for i in places for j in places if value(group, i) > value(group, j) and differ(group, i, j)]
