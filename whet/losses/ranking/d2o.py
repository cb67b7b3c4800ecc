"""D2O: away from bad answers, held by several of one's own (Duan et al. 2024, arXiv:2403.03419).

    L = −log σ( β · mean_i log π(y_i)/ref(y_i) − alpha · mean_j log π(y_j)/ref(y_j) )

The y_i are samples of the reference (the paper has K = 11), the answers rated above 0; the y_j, all others, are the
negatives that people wrote or marked (the paper has one; of several the mean is taken). No good answer by a human is
needed: the samples keep the model where it was while it leaves the negatives. alpha weighs the negatives alone. What is
averaged is the log-ratio, not the probability. With one sample, one negative and alpha = β this is DPO, so that plain
pairs may be given, too. The paper allows one reference for the samples and one for the negatives, which are the same
model in its experiments as they are here. Ratings say on which side an answer stands, and nothing else; a row
without both sides is refused. Log-probabilities are summed. At π = ref the loss is log 2.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from whet.losses import ranking_loss
from whet.losses.terms import Rankings


@ranking_loss(needs={"logprobs", "reference"}, sides=True)
def d2o(
    rankings: Rankings,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    alpha: Annotated[float, Field(gt=0)] = 0.1,
) -> Tensor:
    """Logistic loss of the samples' mean implicit reward over the negatives', per ranking.

    >>> from torch import ones, tensor
    >>> r = Rankings(there=ones(1, 3, dtype=bool), rating=tensor([[1.0, 1.0, 0.0]]), length=tensor([[5.0] * 3]),
    ...              policy=tensor([[-8.0, -10.0, -11.0]]), anchor=tensor([[-10.0] * 3]))
    >>> f"{d2o(r).item():.6f}"                                               # (2 + 0)/2 and −1: as DPO's at D = 2
    '0.598139'
    """
    ratio, own = rankings.logratio("sum"), rankings.there & (rankings.rating > 0)
    return -F.logsigmoid(beta * _mean(ratio, own) - alpha * _mean(ratio, rankings.there & ~own))


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """The mean of the chosen ones of each row; 0 where there are none."""
    return (values * chosen).sum(dim=1) / chosen.sum(dim=1).clamp(min=1)
