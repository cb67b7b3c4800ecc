"""f-DPO: DPO for another divergence from the reference than the reverse KL (Wang et al. 2023, arXiv:2309.16240).

    u = π(y)/ref(y)        L = −log σ(β (f'(u_w) − f'(u_l)))

    reverse_kl   f'(u) = log u + 1            DPO
    forward_kl   f'(u) = −1/u
    js           f'(u) = log(2u/(1 + u))
    alpha        f'(u) = (1 − u^−alpha)/alpha     0: reverse KL, 1: forward KL

Constants of f' cancel. Forward KL and Jensen–Shannon give up reward for diversity. `alpha` is the paper's; the option
`f_alpha_divergence_coef` of TRL is 1 − alpha, so only 0.5 means the same in both. u^−alpha of an answer that has become
very unlikely leaves the numbers' range: where −alpha log u is above 20 the tangent goes on, so the gradient stays
finite and keeps its direction. The prompt's normaliser cancels only in differences of f', which is why methods of one
answer at a time have no such form.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.preference.gpo import tangent_beyond
from whet.losses.terms import Responses

Divergence = Literal["reverse_kl", "forward_kl", "js", "alpha"]


@preference_loss(needs={"logprobs", "reference"})
def f_dpo(
    chosen: Responses,
    rejected: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    divergence: Divergence = "js",
    alpha: Annotated[float, Field(gt=0, le=1)] = 0.5,
) -> Tensor:
    """Logistic loss of β times the difference of f', per pair; `alpha` is read by the divergence of that name.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> l = Responses(policy=tensor([-11.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> [f"{f_dpo(w, l, divergence=d).item():.6f}" for d in ("reverse_kl", "forward_kl", "js", "alpha")]
    ['0.598139', '0.582517', '0.644397', '0.594349']
    """
    good, bad = (_slope(side.logratio("sum"), divergence, alpha) for side in (chosen, rejected))
    return -F.logsigmoid(beta * (good - bad))


def _slope(logratio: Tensor, divergence: Divergence, alpha: float) -> Tensor:
    """f'(u) of log u, but for a constant."""
    if divergence == "reverse_kl":
        return logratio
    if divergence == "js":
        return F.logsigmoid(logratio)
    power = 1.0 if divergence == "forward_kl" else alpha
    inside, beyond = tangent_beyond(-power * logratio)
    return -(inside.expm1() + beyond) / power
