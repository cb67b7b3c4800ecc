"""IPO: the margin is to be one number, not as large as can be (Azar et al. 2023, arXiv:2310.12036, eq. 17).

    D = log π(y_w)/ref(y_w) − log π(y_l)/ref(y_l)        L = (D − 1/(2β))²

β is the paper's τ. A margin beyond 1/(2β) is pulled back, so a preference that never fails does not drive π away from
the reference; the gradient is linear in D and never saturates. The paper's probabilities are those of whole answers:
`reduce="sum"`. TRL, HALOs and torchtune average log-ratios over tokens, which `reduce="mean"` reproduces; the target
1/(2β), 5 at β = 0.1, is then one per token and needs a β some |y| times larger to be within reach.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.terms import Responses
from whet.types import Reduce


@preference_loss(needs={"logprobs", "reference"})
def ipo(
    chosen: Responses,
    rejected: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    reduce: Reduce = "sum",
) -> Tensor:
    """Squared distance of the difference of log-ratios from 1/(2β), per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> l = Responses(policy=tensor([-11.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> f"{ipo(w, l).item():.2f}", f"{ipo(w, l, reduce='mean').item():.2f}"             # D = 2 or 0.4; target 5
    ('9.00', '21.16')
    """
    return (chosen.logratio(reduce) - rejected.logratio(reduce) - 1 / (2 * beta)).square()
