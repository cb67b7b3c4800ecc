"""RPO: reward-aware preference optimisation (Nemotron-4 340B report, NVIDIA 2024, arXiv:2406.11704).

    a = β (log π(y_w)/ref(y_w) − log π(y_l)/ref(y_l))        b = eta (r(y_w) − r(y_l))
    backward   KL(Bernoulli σ(b) ‖ Bernoulli σ(a))
    forward    KL(Bernoulli σ(a) ‖ Bernoulli σ(b))
    squared    (a − b)²

r is the answer column "rating": a slightly better answer is to be preferred slightly. All three are 0 where a = b.
The names are those of its public code (rpo_bwd_kl, rpo_fwd_kl, rpo_sq); the usual reading is the other way round, since
"backward" averages over the target σ(b) and is what others call the forward KL. It is the report's. As eta → ∞ it is
DPO. `eta` scales ratings to log-odds: with ratings of 1 to 10, differences of several units at eta 1 are as good as
hard labels. Regularised preference optimisation (DPO plus likelihood: see `irpo`) is called RPO too, and is another
method. Log-probabilities are summed.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.terms import Responses


@preference_loss(needs={"logprobs", "reference"}, answer_columns={"rating": True})
def rpo(
    chosen: Responses,
    rejected: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.2,
    eta: Annotated[float, Field(gt=0)] = 1.0,
    form: Literal["backward", "forward", "squared"] = "backward",
) -> Tensor:
    """Distance of the implicit difference of rewards from the given one, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.5]), anchor=tensor([-10.0]), length=tensor([5.0]),
    ...               col={"rating": tensor([3.0])})
    >>> l = Responses(policy=tensor([-10.5]), anchor=tensor([-10.0]), length=tensor([5.0]),
    ...               col={"rating": tensor([2.0])})
    >>> [f"{rpo(w, l, form=form).item():.6f}" for form in ("backward", "forward", "squared")]      # a = 0.2, b = 1
    ['0.069724', '0.075256', '0.640000']
    """
    implicit = beta * (chosen.logratio("sum") - rejected.logratio("sum"))
    given = eta * (chosen.column("rating") - rejected.column("rating"))
    if form == "squared":
        return (implicit - given).square()
    return _divergence(given, implicit) if form == "backward" else _divergence(implicit, given)


def _divergence(this: Tensor, that: Tensor) -> Tensor:
    """KL(Bernoulli σ(this) ‖ Bernoulli σ(that)).

    >>> import torch
    >>> f"{_divergence(torch.tensor(0.0), torch.tensor(2.0)).item():.6f}"                   # log(2 cosh 1) − log 2
    '0.433781'
    """
    heads = this.sigmoid() * (F.logsigmoid(this) - F.logsigmoid(that))
    return heads + (-this).sigmoid() * (F.logsigmoid(-this) - F.logsigmoid(-that))
