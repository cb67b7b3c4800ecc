"""PRO: preference ranking optimisation, whose contrasts grow with the ratings (Song et al. 2023, arXiv:2306.17492).

    s_i = log π(y_i) / |y_i|        T_ki = r_k − r_i        T_k = max_i T_ki
    L = −Σ_k log( exp(T_k s_k) / (exp(T_k s_k) + Σ_{i worse than k} exp(T_ki s_i)) ) − beta (n − 1)² log π(y_best)

The first sum is over the answers that beat another one, i and the maximum over those that k beats, n is the number of
answers. Log-probabilities are averaged over tokens in the first summand and summed in the second; there is no
reference. Ratings are read by their sizes: a gap twice as large doubles the temperature, so ratings should be brought
to a scale near 1 (two answers with a gap of 1 are −log σ(s_w − s_l), a DPO without reference whose β is 1 per length).

Of several best answers the mean log-likelihood is taken. Tied answers do not compete; the released code, for which a
tie has temperature 0, leaves a constant exp(0) = 1 in the sum instead, and a rival that no model can beat.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from whet.losses import ranking_loss
from whet.losses.ranking.rrhf import of_best
from whet.losses.terms import Rankings


@ranking_loss(needs={"logprobs"}, answer_columns={"rating": True})
def pro(rankings: Rankings, *, beta: Annotated[float, Field(ge=0)] = 0.05) -> Tensor:
    """The contrasts of each answer with all worse ones and the best answer's likelihood, per ranking.

    >>> from torch import ones, tensor
    >>> r = Rankings(there=ones(1, 2, dtype=bool), rating=tensor([[1.0, 0.0]]), length=tensor([[4.0, 2.0]]),
    ...              policy=tensor([[-4.0, -6.0]]))
    >>> f"{pro(r).item():.6f}"                                   # −log σ(−1 + 3) + 0.05 · 4
    '0.326928'
    """
    score, beats = rankings.logprob("mean"), rankings.better()
    gap = (rankings.rating[:, :, None] - rankings.rating[:, None, :]).masked_fill(~beats, 0.0)
    own, some = gap.amax(dim=2) * score, beats.any(dim=2)
    rivals = (gap * score[:, None, :]).masked_fill(~beats & some[:, :, None], float("-inf")).logsumexp(dim=2)
    contrast = torch.where(some, F.softplus(rivals - own), torch.zeros_like(own)).sum(dim=1)
    others = rankings.there.sum(dim=1) - 1
    return contrast - beta * others.square() * of_best(rankings, rankings.logprob("sum"))
