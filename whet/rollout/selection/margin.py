"""Pairs that lie clearly apart: DNO's practical form (Rosset et al. 2024, arXiv:2404.03715).

    {(i, j): value_i − value_j ≥ least}        value: rate of wins, or reward

The paper keeps pairs of a large margin as its judge scores them and reports that without this filter the method does
worse than DPO; it gives no number for rates of wins, so `least` is ours: a quarter.
"""

from __future__ import annotations

from random import Random
from typing import Annotated

from pydantic import Field

from whet.rollout.feedback import value
from whet.rollout.selection import selection
from whet.rollout.selection.all_pairs import all_pairs
from whet.types import Group


@selection
def margin(group: Group, random: Random, *, least: Annotated[float, Field(ge=0)] = 0.25) -> list[tuple[int, int]]:
    """All (better, worse) of a prompt whose values differ by `least` or more.

    >>> from whet.rollout.selection.example import of_rewards
    >>> margin(of_rewards(0.0, 1.0, 0.9), Random(0), least=0.5)
    [(1, 0), (2, 0)]
    """
    return [(i, j) for i, j in all_pairs(group, random) if value(group, i) - value(group, j) >= least]
