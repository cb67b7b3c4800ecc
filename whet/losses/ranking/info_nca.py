"""InfoNCA: K answers with rewards, as one classification (Chen et al. 2024, arXiv:2402.05369).

    q = softmax_i(rating_i / alpha)        L = −Σ_i q_i log softmax_i(β log π(y_i)/ref(y_i))

The sums run over the answers to one prompt. Whatever answers are shown, the optimum is π ∝ ref · exp(rating/(alpha β)).
A small alpha sees only who is best; alpha = 0 is that limit, needs no ratings, only an order, and shares q among tied
best answers: with two answers it is DPO. Only differences within a prompt count, so all likelihoods may fall together
(NCA holds them). Log-probabilities are summed.

Defaults are the authors' configuration, in which ratings of 1 to 10 make q all but hard. Their code adds 0.01 to the
first answer's rating so that it wins ties; here ties share. Its note that its alpha is the inverse of the paper's does
not change what it computes, which is this: ratings are divided by it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from whet.losses import ranking_loss
from whet.losses.terms import Rankings


@ranking_loss(needs={"logprobs", "reference"}, answer_columns={"rating": "alpha"})
def info_nca(
    rankings: Rankings,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.01,
    alpha: Annotated[float, Field(ge=0)] = 1e-4,
) -> Tensor:
    """Cross-entropy between the softmax of ratings and that of implicit rewards, per ranking.

    >>> from torch import ones, tensor
    >>> r = Rankings(there=ones(1, 2, dtype=bool), rating=tensor([[1.0, 0.0]]), length=tensor([[5.0] * 2]),
    ...              policy=tensor([[-9.0, -11.0]]), anchor=tensor([[-10.0] * 2]))
    >>> f"{info_nca(r, beta=0.1).item():.6f}", f"{info_nca(r, beta=0.1, alpha=1.0).item():.6f}"    # log σ(±0.2)
    ('0.598139', '0.651927')
    """
    return -(targets(rankings, alpha) * among(rankings, beta * rankings.logratio("sum"))).sum(dim=1)


def among(rankings: Rankings, values: Tensor) -> Tensor:
    """log softmax over the answers to each prompt, `[G, K]`; 0 where there is none.

    >>> import torch
    >>> r = Rankings(there=torch.tensor([[True, True, False]]), rating=torch.zeros(1, 3), length=torch.ones(1, 3))
    >>> [f"{x:.6f}" for x in among(r, torch.zeros(1, 3))[0].tolist()]
    ['-0.693147', '-0.693147', '0.000000']
    """
    return values.masked_fill(~rankings.there, float("-inf")).log_softmax(dim=1).masked_fill(~rankings.there, 0.0)


def targets(rankings: Rankings, alpha: float) -> Tensor:
    """softmax(rating / alpha) over the answers to each prompt, `[G, K]`; with alpha = 0 the best share it.

    >>> import torch
    >>> r = Rankings(there=torch.ones(1, 3, dtype=torch.bool), rating=torch.tensor([[2.0, 2.0, 1.0]]),
    ...              length=torch.ones(1, 3))
    >>> [f"{x:.4f}" for alpha in (0.0, 1.0) for x in targets(r, alpha)[0].tolist()]
    ['0.5000', '0.5000', '0.0000', '0.4223', '0.4223', '0.1554']
    """
    if alpha == 0:
        top = rankings.top()
        return top / top.sum(dim=1, keepdim=True)
    return among(rankings, rankings.rating / alpha).exp() * rankings.there
