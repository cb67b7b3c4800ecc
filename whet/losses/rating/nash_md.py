"""Nash-MD: policy gradient towards the Nash policy of a general preference (Munos et al. 2023, arXiv:2312.00886).

    A(y) = P(y ≻ y′) − ½ − τ log π(y)/ref(y), a constant        L = −A(y) log π(y)

The column "win_rate" is P(y ≻ y′): how often y, drawn from the policy, beats y′, drawn from the mixture of policy and
reference, π′ ∝ π^(1−α) ref^α token by token. So the rows are the policy's own fresh answers, at temperature 1 and with
no token cut off: on rows that it did not draw, this is no gradient of anything. The ½ is a control variate: it lowers
the variance, and must not scale the KL.
P needs no reward behind it: where preferences go round in a circle the policy ends at the mixture that nothing beats.
The value is no measure of progress (its mean may rise or fall): watch the win rate. Log-probabilities are summed.

TRL makes P of a scalar reward model, σ(s(y) − s(y′)), unless it is given a judge, which cannot say "in a circle"; and
its KL multiplies each token's log-ratio with the gradient of that token alone, without what follows it. Here the whole
answer's log-ratio stands before the whole answer's gradient, as in the paper.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from whet.losses import rating_loss
from whet.losses.terms import Responses


@rating_loss(needs={"logprobs", "reference"}, answer_columns={"win_rate": True}, drawn=True)
def nash_md(responses: Responses, *, tau: Annotated[float, Field(ge=0)] = 0.008) -> Tensor:
    """Minus log π times the regularised advantage over one half, per response.

    >>> from torch import tensor
    >>> r = Responses(policy=tensor([-9.0]), anchor=tensor([-10.0]), length=tensor([5.0]),
    ...               col={"win_rate": tensor([0.8])})
    >>> f"{nash_md(r, tau=0.1).item():.6f}"                                        # A = 0.8 − ½ − 0.1; 9 A
    '1.800000'
    """
    advantage = responses.column("win_rate") - 0.5 - tau * responses.logratio("sum")
    return -advantage.detach() * responses.logprob("sum")
