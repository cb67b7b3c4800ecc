"""APO: which answer moves which way, said beforehand (D'Oosterlinck et al. 2024, arXiv:2408.06266, eq. 7 and 8).

    r(y) = β log π(y)/ref(y)
    zero:  L = (1 − σ(r_w)) + σ(r_l)                chosen up, rejected down: chosen better than the model's own answers
    down:  L = σ(r_w) + (1 − σ(r_w − r_l))          both down, rejected further: chosen worse than the model's own

The constant 1 is added as in public code (the paper has −σ(r_w) + σ(r_l)), so that π = ref gives 1. All terms are
bounded: pairs that are far wrong or far right have no gradient, so a start far from the reference learns nothing.
Log-probabilities are summed. APO-down never raises the chosen answer near π = ref, by design: at r = 0 its two slopes
cancel, and while |r_w| < |r_w − r_l| the chosen answer falls.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.terms import Responses


@preference_loss(needs={"logprobs", "reference"})
def apo_zero(chosen: Responses, rejected: Responses, *, beta: Annotated[float, Field(gt=0)] = 0.1) -> Tensor:
    """1 less the chosen answer's σ(r), plus the rejected one's, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> l = Responses(policy=tensor([-11.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> f"{apo_zero(w, l).item():.6f}"                                                 # r = ±0.1
    '0.950042'
    """
    good, bad = beta * chosen.logratio("sum"), beta * rejected.logratio("sum")
    return (-good).sigmoid() + bad.sigmoid()


@preference_loss(
    needs={"logprobs", "reference"},
    breaks={
        "at_equal_margins_chosen_rises_and_rejected_falls": "the chosen answer is to fall too: at r = 0 its two slopes "
        "cancel"
    },
)
def apo_down(chosen: Responses, rejected: Responses, *, beta: Annotated[float, Field(gt=0)] = 0.1) -> Tensor:
    """The chosen answer's σ(r), plus 1 less the margin's, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> l = Responses(policy=tensor([-11.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> f"{apo_down(w, l).item():.6f}"                                                 # r = ±0.1
    '0.975145'
    """
    good, bad = beta * chosen.logratio("sum"), beta * rejected.logratio("sum")
    return good.sigmoid() + (bad - good).sigmoid()
