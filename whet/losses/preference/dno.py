"""DNO: direct Nash optimisation, a classifier of win rates (Rosset et al. 2024, arXiv:2404.03715).

    D = eta (log π(y_1)/π_t(y_1) − log π(y_2)/π_t(y_2))        p = σ(R(y_1) − R(y_2))
    L = −p log σ(D) − (1 − p) log σ(−D)

R is the answer column "win_rate": how often the answer wins against π_t, the policy of the round before and the
reference here. Equal win rates are learned as equal; since rates lie between 0 and 1, p never leaves 0.27 to 0.73.
`soft=false` is what the paper trains at scale (DNO-Prct): pairs with a large margin and p = 1, which is DPO with
β = eta. There the pairs are made among several answers of π_t and one of a stronger model, and without the choice by
margin it falls behind DPO. Log-probabilities are summed.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.preference.dpo import logistic
from whet.losses.terms import Responses


@preference_loss(needs={"logprobs", "reference"}, answer_columns={"win_rate": "soft"})
def dno(
    chosen: Responses, rejected: Responses, *, eta: Annotated[float, Field(gt=0)] = 0.1, soft: bool = True
) -> Tensor:
    """Cross-entropy of the preference that win rates say with the implied one, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0]), anchor=tensor([-10.0]), length=tensor([5.0]),
    ...               col={"win_rate": tensor([0.75])})
    >>> l = Responses(policy=tensor([-11.0]), anchor=tensor([-10.0]), length=tensor([5.0]),
    ...               col={"win_rate": tensor([0.25])})
    >>> [f"{dno(w, l, soft=soft).item():.6f}" for soft in (True, False)]     # p = σ(½): 0.598139 + 0.377541 · 0.2
    ['0.673647', '0.598139']
    """
    wrong = (rejected.column("win_rate") - chosen.column("win_rate")).sigmoid() if soft else 0.0
    return logistic(eta * (chosen.logratio("sum") - rejected.logratio("sum")), wrong)
