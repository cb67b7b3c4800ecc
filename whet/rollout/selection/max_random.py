"""The best answer against another one by chance: a wider choice of losers (Xiong et al. 2023, arXiv:2312.11456).

    (argmax_i value_i, j)        j uniform over the others

With `other="first"` the loser is the first answer (the second, where the best is the first), which draws nothing: the
public code of online RLHF does so, and since answers come in no order of merit it is as good as a random choice.
A tie of the two gives no pair. With two answers it is `best_and_worst`.
"""

from __future__ import annotations

from random import Random
from typing import Literal

from whet.rollout.feedback import differ, judged, value
from whet.rollout.selection import selection
from whet.types import Group


@selection
def max_random(group: Group, random: Random, *, other: Literal["random", "first"] = "random") -> list[tuple[int, int]]:
    """One pair a prompt: the highest value over a random other.

    >>> from whet.rollout.selection.example import of_rewards
    >>> max_random(of_rewards(0.5, 2.0), Random(0)), max_random(of_rewards(0.5, -1.0, 2.0), Random(0), other="first")
    ([(1, 0)], [(2, 0)])
    """
    places = judged(group)
    if len(places) < 2:
        return []
    best = max(places, key=lambda i: value(group, i))
    others = [place for place in places if place != best]
    chosen = others[0 if other == "first" else int(random.random() * len(others))]
    return [(best, chosen)] if value(group, best) > value(group, chosen) and differ(group, best, chosen) else []
