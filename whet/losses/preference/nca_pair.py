"""NCA on pairs: each answer against the reference as noise, so likelihoods and not only their difference count (Chen et
al. 2024, arXiv:2402.05369).

    r(y) = β log π(y)/ref(y)        L = −log σ(r_w) − ½ log σ(−r_w) − ½ log σ(−r_l)

The first two summands are least at r_w = log 2, so the chosen answer is raised and held there instead of falling with
the rejected one. A constant added to both rewards changes the loss, unlike DPO's. This is the form for two answers
with certain labels; π = ref gives 2 log 2. Log-probabilities are summed.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.terms import Responses


@preference_loss(needs={"logprobs", "reference"})
def nca_pair(chosen: Responses, rejected: Responses, *, beta: Annotated[float, Field(gt=0)] = 0.01) -> Tensor:
    """Noise-contrastive loss of both answers' implicit rewards, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> l = Responses(policy=tensor([-11.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> f"{nca_pair(w, l, beta=0.1).item():.6f}"                                       # r = ±0.1
    '1.338793'
    """
    good, bad = beta * chosen.logratio("sum"), beta * rejected.logratio("sum")
    return -F.logsigmoid(good) - 0.5 * F.logsigmoid(-good) - 0.5 * F.logsigmoid(-bad)
