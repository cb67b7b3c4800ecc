"""RRHF: better answers shall be likelier, and the best is imitated (Yuan et al. 2023, arXiv:2304.05302, eq. 1 to 4).

    p_i = log π(y_i) / |y_i|
    L = weight · Σ_{r_i < r_j} max(0, p_i − p_j) − log π(y_best)

There is no reference and no margin: once the likelihoods stand in the order of the ratings, the first summand is 0 and
only imitation is left. Ratings are compared, their sizes say nothing; tied answers are not compared, and of several
best ones the mean log-likelihood is taken. `imitate="mean"` divides it by the length.

The released code does neither: it averages the best answer's tokens over the padded width of the batch, prompt
included, so that padding changes what imitation weighs, and gives the ranking term a weight of 100 where its script's 1
is not set. Its power of the length, 1 as well, is no option here.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from whet.losses import ranking_loss
from whet.losses.terms import Rankings
from whet.types import Reduce


@ranking_loss(needs={"logprobs"})
def rrhf(
    rankings: Rankings,
    *,
    weight: Annotated[float, Field(ge=0)] = 1.0,
    imitate: Reduce = "sum",
) -> Tensor:
    """The hinge losses of all pairs in the wrong order, and minus the best answer's log-likelihood, per ranking.

    >>> from torch import ones, tensor
    >>> r = Rankings(there=ones(1, 3, dtype=bool), rating=tensor([[3.0, 2.0, 1.0]]), length=tensor([[4.0, 4.0, 2.0]]),
    ...              policy=tensor([[-8.0, -4.0, -3.0]]))
    >>> rrhf(r).item()                                 # p = −2, −1, −1.5: hinges 1 and 0.5, likelihood −8
    9.5
    """
    score = rankings.logprob("mean")
    behind = score[:, None, :] - score[:, :, None]
    # where both are alike the middle slope of the kink is taken, so that they do not stay alike
    hinge = torch.maximum(behind, torch.zeros_like(behind)) * rankings.better()
    return weight * hinge.sum(dim=(1, 2)) - of_best(rankings, rankings.logprob(imitate))


def of_best(rankings: Rankings, values: Tensor) -> Tensor:
    """The mean of a number over each prompt's best answers, `[G, K]` → `[G]`.

    >>> r = Rankings(there=torch.ones(1, 3, dtype=torch.bool), rating=torch.tensor([[1.0, 2.0, 2.0]]),
    ...              length=torch.ones(1, 3))
    >>> of_best(r, torch.tensor([[5.0, 1.0, 3.0]])).item()
    2.0
    """
    top = rankings.top()
    return (values * top).sum(dim=1) / top.sum(dim=1)
