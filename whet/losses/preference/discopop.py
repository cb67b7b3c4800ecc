"""DiscoPOP: logistic loss of wrong pairs, exponential of right ones, found by search (Lu et al. 2024,
arXiv:2406.08414, eq. 5).

    z = β (log π(y_w)/ref(y_w) − log π(y_l)/ref(y_l))        m = σ(z/tau)
    L = −(1 − m) log σ(z) + m e^−z

Not convex: at tau = 0.05 the loss rises from z = −0.118 to z = 0.071, so there, and at π = ref, the gradient lessens
the margin; a temperature above about 0.10 has no such stretch. The product m e^−z is taken as e^(log m − z), which is
finite at any z as long as tau ≤ 1. The authors' repository has a variant in which only the exponential sees β; this is
the paper's form, as in TRL.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.terms import Responses


@preference_loss(
    needs={"logprobs", "reference"},
    breaks={"at_equal_margins_chosen_rises_and_rejected_falls": "the loss rises with a margin between −0.12 and 0.07"},
)
def discopop(
    chosen: Responses,
    rejected: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.05,
    tau: Annotated[float, Field(gt=0, le=1)] = 0.05,
) -> Tensor:
    """Blend of logistic and exponential loss by the margin's own sign, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> l = Responses(policy=tensor([-11.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> f"{discopop(w, l, beta=0.1).item():.6f}", f"{discopop(w, w).item():.6f}"                # D = 2 and 0
    ('0.814763', '0.846574')
    """
    margin = beta * (chosen.logratio("sum") - rejected.logratio("sum"))
    logistic = -(-margin / tau).sigmoid() * F.logsigmoid(margin)
    return logistic + (F.logsigmoid(margin / tau) - margin).exp()
