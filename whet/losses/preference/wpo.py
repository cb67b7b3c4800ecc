"""WPO: pairs weigh as much as the policy itself would write them (Zhou et al. 2024, arXiv:2406.11827).

    log w(y) = mean over tokens of [ log π(y_t) − log Σ_v π(v)² ]
    L = min(w(y_w) · w(y_l), ceiling) · DPO(y_w, y_l),        the weight a constant

Data of another model are brought nearer to data of this one: an answer whose every token is as likely as a token drawn
from π (its probability is Σ_v π(v)² on average) has weight 1, an unlikely one nearly 0. The second term is the
vocabulary statistic `log_sum_squares`; a uniform π has weight 1 whatever the answer, and that is DPO.
`ceiling` 1 is the authors' clamp. TRL has none: a product of two weights is never above the size of the vocabulary, so
any larger ceiling gives TRL's. Other public code puts summed log-probabilities into w and leaves log Σ π² out, which
makes every weight about 0. The loss falls as weights fall too: watch the rewards beside it.
"""

from __future__ import annotations

from math import log
from typing import Annotated

from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss, statistic
from whet.losses.preference.dpo import dpo
from whet.losses.terms import Responses


@statistic
def log_sum_squares(logits: Tensor, other: Tensor | None) -> Tensor:
    """log Σ_v π(v)² of each next-token distribution: how likely two draws from it agree.

    Between −log V (uniform) and 0 (certain).

    >>> import torch
    >>> f"{log_sum_squares(torch.tensor([[0.5, 0.25, 0.25]]).log(), None).item():.6f}"            # log 0.375
    '-0.980829'
    """
    return (2 * logits.log_softmax(dim=-1)).logsumexp(dim=-1)


@preference_loss(needs={"logprobs", "reference", "log_sum_squares"})
def wpo(
    chosen: Responses,
    rejected: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.01,
    ceiling: Annotated[float, Field(gt=0)] = 1.0,
) -> Tensor:
    """DPO's loss times the weight of both answers under the policy, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-4.0]), anchor=tensor([-5.0]), length=tensor([4.0]),
    ...               stat={"log_sum_squares": tensor([-4.0])})
    >>> l = Responses(policy=tensor([-6.0]), anchor=tensor([-5.0]), length=tensor([4.0]),
    ...               stat={"log_sum_squares": tensor([-4.0])})
    >>> f"{wpo(w, l, beta=0.1).item():.6f}"                              # weights 1 and e^−½; 0.606531 · 0.598139
    '0.362790'
    """
    weight = (_log_weight(chosen) + _log_weight(rejected)).clamp(max=log(ceiling)).exp()
    return weight.detach() * dpo(chosen, rejected, beta=beta)


def _log_weight(responses: Responses) -> Tensor:
    """log w(y), the mean over counted tokens."""
    return (responses.logprob("sum") - responses.stat["log_sum_squares"]) / responses.length
