"""NCA: K answers with rewards, each likely by itself (Chen et al. 2024, arXiv:2402.05369).

    q = softmax_i(rating_i / alpha)        r_i = β log π(y_i)/ref(y_i)
    L = −Σ_i q_i log σ(r_i) − (1/K) Σ_i log σ(−r_i)

Every answer's implicit reward has its own target, r_i = log(K q_i): an answer above the average (q_i > 1/K) rises, one
below falls. DPO and InfoNCA look at differences alone and let good answers become less likely with the bad ones.
Answers drawn from the reference lead to π = ref · exp(rating/alpha)/Z at β = 1 as K grows; a constant added to all
log-ratios of a prompt changes the loss. With two answers and alpha = 0 this is the pair form
−log σ(r_w) − ½ log σ(−r_w) − ½ log σ(−r_l). Log-probabilities are summed; at π = ref the loss is 2 log 2.

`alpha` and what the authors' code does besides are as with InfoNCA.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from whet.losses import ranking_loss
from whet.losses.ranking.info_nca import targets
from whet.losses.terms import Rankings


@ranking_loss(needs={"logprobs", "reference"}, answer_columns={"rating": "alpha"})
def nca(
    rankings: Rankings,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.01,
    alpha: Annotated[float, Field(ge=0)] = 1e-4,
) -> Tensor:
    """Logistic losses of every answer against its share of the reward and against the reference, per ranking.

    >>> from torch import ones, tensor
    >>> r = Rankings(there=ones(1, 2, dtype=bool), rating=tensor([[1.0, 0.0]]), length=tensor([[5.0] * 2]),
    ...              policy=tensor([[-9.0, -11.0]]), anchor=tensor([[-10.0] * 2]))
    >>> f"{nca(r, beta=0.1).item():.6f}"
    '1.338793'
    """
    implicit, there = beta * rankings.logratio("sum"), rankings.there
    share = there / there.sum(dim=1, keepdim=True)
    return -(targets(rankings, alpha) * F.logsigmoid(implicit) + share * F.logsigmoid(-implicit)).sum(dim=1)
