"""What a step of a pair loss costs beside DPO, counted in floating-point operations, against what `whet list` says."""

from __future__ import annotations

from functools import cache

import pytest
import tiny
from test_step import gradients, named
from torch.utils.flop_counter import FlopCounterMode

from whet.costs import cost
from whet.losses import preference_loss

WHOLE, CUT = 10_000, 13


@cache
def operations(name: str, budget: int) -> int:
    """Of one optimizer step on the same pairs, forward and backward; what is known of the reference is given."""
    with FlopCounterMode(display=False) as counter:
        gradients(named(name, tiny.pair_trees)(), budget=budget)
    return counter.get_total_flops()


@pytest.mark.parametrize("budget", [WHOLE, CUT], ids=["whole", "cut"])
@pytest.mark.parametrize("name", preference_loss.names())
def test_a_step_costs_what_dpos_costs_or_says_why_not(name: str, budget: int) -> None:
    """At most 1.05 times; 1.5 times with a declared pass (a second model's vocabulary, a coupled step in pieces)."""
    declared = cost(preference_loss.entry(name))
    more = any(word in declared for word in ("in every step", "one more forward", "statistics"))
    assert operations(name, budget) / operations("dpo", budget) <= (1.5 if more else 1.05), declared
