"""REBEL: regression of relative rewards (Gao et al. 2024, arXiv:2404.16767).

    L = (log π(y)/π_t(y) − log π(y')/π_t(y') − eta (r(y) − r(y')))²

r is the answer column "rating". The reference is π_t, the policy that wrote the answers: offline the model as it
starts, in rounds the one of the round before, so that every round moves on from where it stands. The optimum is
π ∝ π_t · exp(eta r); which answer is called chosen does not matter. 1/eta is the strength of the KL: eta has to fit the
rewards' scale, and a constant added to all rewards does nothing.
The paper divides the square by eta² (it regresses D/eta on the rewards), its code does not: the same minimum, another
scale of the loss. The paper's reward contains the KL to the first model; where it is wanted, it belongs into "rating".
Log-probabilities are summed.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.terms import Responses


@preference_loss(needs={"logprobs", "reference"}, answer_columns={"rating": True})
def rebel(chosen: Responses, rejected: Responses, *, eta: Annotated[float, Field(gt=0)] = 1.0) -> Tensor:
    """Squared distance of the difference of log-ratios from eta times the difference of rewards, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.8]), anchor=tensor([-10.0]), length=tensor([5.0]),
    ...               col={"rating": tensor([3.0])})
    >>> l = Responses(policy=tensor([-10.2]), anchor=tensor([-10.0]), length=tensor([5.0]),
    ...               col={"rating": tensor([2.0])})
    >>> f"{rebel(w, l).item():.4f}"                                                              # (0.4 − 1)²
    '0.3600'
    """
    given = eta * (chosen.column("rating") - rejected.column("rating"))
    return (chosen.logratio("sum") - rejected.logratio("sum") - given).square()
