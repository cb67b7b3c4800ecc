"""The first two answers, labelled by who compares them: online DPO (Guo et al. 2024, arXiv:2402.04792).

    u < P(y_0 ≻ y_1)  ?  (0, 1) : (1, 0)         label="draw", u uniform: the verdict of a noisy annotator
    P(y_0 ≻ y_1) > ½  ?  (0, 1) : (1, 0)         label="majority": no pair where P is ½

With rewards P is σ(r_0 − r_1). A public trainer gives ties to the first of the two and learns from them; here a tie by
majority is no pair, and a drawn one is a coin's.
"""

from __future__ import annotations

from random import Random

from whet.rollout.feedback import judged, verdict
from whet.rollout.selection import selection
from whet.types import Group, LabelBy


@selection
def first_two(group: Group, random: Random, *, label: LabelBy = "draw") -> list[tuple[int, int]]:
    """One pair a prompt, of two answers as they were drawn.

    >>> from whet.rollout.selection.example import of_rewards
    >>> first_two(of_rewards(0.0, 9.0), Random(0)), first_two(of_rewards(1.0, 1.0), Random(0), label="majority")
    ([(1, 0)], [])
    """
    if judged(group)[:2] != [0, 1]:
        return []
    found = verdict(group, 0, 1, uniform=random.random(), label=label)
    return [] if found is None else [found]
