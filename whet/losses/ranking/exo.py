"""EXO: exact optimisation, the reverse KL between two rankings of K answers (Ji et al. 2024, arXiv:2402.00856).

    f = softmax_i(β log π(y_i)/ref(y_i))        p = softmax_i(rating_i / beta_r)        L = Σ_i f_i (log f_i − log p_i)

InfoNCA has the same two distributions the other way round: there the policy must cover what the ratings like, here it
may settle on some of it. The gradient goes through f as weight and as logarithm. The optimum is
π ∝ ref · exp(rating/(beta_r β)), and the loss is 0 there.

With beta_r = 0 ratings are not read: p has 1 − label_smoothing on the best answer (tied ones share it), the rest on the
others. label_smoothing stands for nothing else, and must not be 0, whose logarithm bounds the loss; as an answer's f
goes wrong the loss stops at −log label_smoothing, where DPO's grows on. Log-probabilities are summed.

β = beta_r = 0.5 is the authors' code for dialogues; there log label_smoothing is −10, in TRL's pair form it is 1e-3.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from whet.losses import ranking_loss
from whet.losses.ranking.info_nca import among, targets
from whet.losses.terms import Rankings


@ranking_loss(needs={"logprobs", "reference"}, answer_columns={"rating": "beta_r"})
def exo(
    rankings: Rankings,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.5,
    beta_r: Annotated[float, Field(ge=0)] = 0.5,
    label_smoothing: Annotated[float, Field(gt=0, lt=0.5)] = 1e-3,
) -> Tensor:
    """KL from the softmax of implicit rewards to that of ratings, per ranking.

    >>> from torch import ones, tensor
    >>> r = Rankings(there=ones(1, 2, dtype=bool), rating=tensor([[1.0, 0.0]]), length=tensor([[5.0] * 2]),
    ...              policy=tensor([[-9.0, -11.0]]), anchor=tensor([[-10.0] * 2]))
    >>> f"{exo(r, beta=0.1, beta_r=0.0).item():.5f}", f"{exo(r, beta=0.1, beta_r=5.0).item():.5f}"
    ('2.42201', '0.00000')
    """
    policy = among(rankings, beta * rankings.logratio("sum"))
    wanted = among(rankings, rankings.rating / beta_r) if beta_r else _smoothed(rankings, label_smoothing)
    return (policy.exp() * rankings.there * (policy - wanted)).sum(dim=1)


def _smoothed(rankings: Rankings, rest: float) -> Tensor:
    """log p with `rest` shared by all answers but the best; 0 where there is none."""
    others = rankings.there & ~rankings.top()
    share = (1 - rest) * targets(rankings, 0.0) + rest * others / others.sum(dim=1, keepdim=True).clamp(min=1)
    return share.masked_fill(~rankings.there, 1.0).log()
