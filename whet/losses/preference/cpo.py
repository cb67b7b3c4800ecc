"""CPO and CPO-SimPO: a pair loss without a reference, and the chosen answer's likelihood (Xu et al. 2024,
arXiv:2401.08417, eq. 3 and the sum with its NLL).

    CPO:        L = −log σ(β (log π(y_w) − log π(y_l))) + NLL(y_w)
    CPO-SimPO:  L = SimPO(y_w, y_l) + NLL(y_w)

CPO is DPO with a uniform reference. The functions here are the first summands; the second stands beside them, its
weight 1, averaged over the chosen answers' counted tokens. CPO's log-probabilities are sums (`reduce="mean"` averages
them, which is CPO-SimPO without a margin). Another weight of the likelihood is made of parts: `simpo` plus so much
`nll`. With sums long answers have larger margins, so length is learned.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.preference.simpo import simpo
from whet.losses.terms import Responses
from whet.types import Reduce


@preference_loss(needs={"logprobs"}, beside={"nll": 1.0})
def cpo(
    chosen: Responses,
    rejected: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    reduce: Reduce = "sum",
) -> Tensor:
    """Logistic loss of β times the difference of log-probabilities, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0]), length=tensor([5.0]))
    >>> l = Responses(policy=tensor([-11.0]), length=tensor([5.0]))
    >>> f"{cpo(w, l).item():.6f}"                                              # as DPO's at D = 2
    '0.598139'
    """
    return -F.logsigmoid(beta * (chosen.logprob(reduce) - rejected.logprob(reduce)))


@preference_loss(needs={"logprobs"}, beside={"nll": 1.0})
def cpo_simpo(
    chosen: Responses,
    rejected: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 2.0,
    gamma_ratio: Annotated[float, Field(ge=0)] = 0.5,
) -> Tensor:
    """SimPO's loss, the likelihood being declared beside it, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-2.0]), length=tensor([4.0]))
    >>> l = Responses(policy=tensor([-8.0]), length=tensor([10.0]))
    >>> f"{cpo_simpo(w, l, beta=2.5, gamma_ratio=0.55).item():.6f}"
    '1.053701'
    """
    return simpo(chosen, rejected, beta=beta, gamma_ratio=gamma_ratio)
