"""The best answer against the worst: what iterative DPO learns from (Xiong et al. 2023, arXiv:2312.11456).

    (argmax_i value_i, argmin_i value_i)        value: reward, or rate of wins

Of several equally good ones the first. No pair where all are equal, or where best and worst are the same tokens.
The two extremes are also where a reward's errors gather: with many answers the best one is the most overrated.
"""

from __future__ import annotations

from random import Random

from whet.rollout.feedback import differ, judged, value
from whet.rollout.selection import selection
from whet.types import Group


@selection
def best_and_worst(group: Group, random: Random) -> list[tuple[int, int]]:
    """One pair a prompt: the highest value over the lowest.

    >>> from whet.rollout.selection.example import of_rewards
    >>> best_and_worst(of_rewards(0.5, 2.0, -1.0), Random(0)), best_and_worst(of_rewards(1.0, 1.0), Random(0))
    ([(1, 2)], [])
    """
    places = judged(group)
    if not places:
        return []
    best, worst = max(places, key=lambda i: value(group, i)), min(places, key=lambda i: value(group, i))
    return [(best, worst)] if value(group, best) > value(group, worst) and differ(group, best, worst) else []
