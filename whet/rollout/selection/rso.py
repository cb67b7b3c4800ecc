"""RSO: answers that follow the optimal policy, by statistical rejection sampling (Liu et al. 2023, arXiv:2309.06657).

    accept y with probability exp((r(y) − r_max)/β)        so that what is kept follows π(y) exp(r(y)/β)/Z

Candidates are gone through again and again, with r_max the greatest reward among those not yet accepted, until `keep`
are accepted: the paper's sampler, which is exact for the first accepted ones only. `once` goes through them one time
with r_max over all: exact for every one, and fewer. Equal tokens are one candidate. β → 0 keeps the best, β → ∞ the
first. The kept ones are paired by chance and each pair is labelled by who compares (σ(r_i − r_j) of rewards):
rank="first_round" leaves it at keep/2 pairs, "tournament" lets the winners meet until one is left.
"""

from __future__ import annotations

import math
from random import Random
from typing import Annotated, Literal

from pydantic import Field

from whet.rollout.feedback import judged, value, verdict
from whet.rollout.selection import selection
from whet.types import Group, LabelBy


@selection
def rso(
    group: Group,
    random: Random,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.5,
    keep: Annotated[int, Field(ge=2)] = 8,
    once: bool = False,
    rank: Literal["first_round", "tournament"] = "first_round",
    label: LabelBy = "draw",
) -> list[tuple[int, int]]:
    """Pairs of accepted candidates.

    >>> from whet.rollout.selection.example import of_rewards
    >>> rso(of_rewards(0.0, 9.0, 8.0, 0.0), Random(0), beta=0.5, keep=2, label="majority")
    [(1, 2)]
    """
    kept = accepted(group, random, beta=beta, keep=keep, once=once)
    found: list[tuple[int, int]] = []
    order = sorted(kept, key=lambda _: random.random())
    while len(order) > 1:
        left = order[len(order) // 2 * 2 :]  # the odd one meets somebody in the next round
        for i, j in zip(order[::2], order[1::2], strict=False):
            won = verdict(group, i, j, uniform=random.random(), label=label)
            found += [] if won is None else [won]
            left.append(i if won is None else won[0])
        order = left if rank == "tournament" else []
    return found


def accepted(group: Group, random: Random, *, beta: float, keep: int, once: bool) -> list[int]:
    """Places of the candidates that rejection sampling accepts, in the order in which it does."""
    pool = list({group.rollouts[i].tokens: i for i in reversed(judged(group))}.values())[::-1]
    kept: list[int] = []
    while pool and len(kept) < keep:
        top = max(value(group, i) for i in pool)
        for i in tuple(pool):
            if len(kept) < keep and random.random() < math.exp((value(group, i) - top) / beta):
                kept.append(i)
                pool.remove(i)
        if once:
            break
    return kept
