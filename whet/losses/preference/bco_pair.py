"""BCO on pairs, without its shift: chosen and rejected classified one by one (Jung et al. 2024, arXiv:2404.04656).

    r(y) = β log π(y)/ref(y)        L = −log σ(r_w) − log σ(−r_l)

An upper bound of DPO's loss of the same pair. The paper moves the boundary by a running mean of rewards; that method,
which takes labelled answers one at a time, is `bco`. This is what TRL's loss "bco_pair" computes, whatever its manual
prints. A constant added to both rewards changes the loss. π = ref gives 2 log 2; log-probabilities are summed.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.terms import Responses


@preference_loss(needs={"logprobs", "reference"})
def bco_pair(chosen: Responses, rejected: Responses, *, beta: Annotated[float, Field(gt=0)] = 0.01) -> Tensor:
    """Logistic losses of both answers' implicit rewards, summed, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> l = Responses(policy=tensor([-11.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> f"{bco_pair(w, l, beta=0.1).item():.6f}"                                       # r = ±0.1
    '1.288793'
    """
    return -F.logsigmoid(beta * chosen.logratio("sum")) - F.logsigmoid(-beta * rejected.logratio("sum"))
