"""XPO: DPO that explores (Xie et al. 2024, arXiv:2405.21046, algorithm 1).

    L = −log σ(β D) + alpha · Σ_{y of the pair that ref wrote} log π(y)        D as in DPO, of sums

For pairs of one answer of the policy and one of the reference, whichever won: the answer column "from_reference" is 1
for the latter and 0 for the former. Making the reference's answers less likely is what optimism comes to: probability
moves to what was not tried yet. The term is added to a loss that is made small; with its sign turned it would imitate
the reference. Log-probabilities are summed, so alpha must be tiny: the paper gives no number, the default is that of
TRL's former trainer, and what grows with the length of answers is soon larger than DPO's part. alpha = 0 is DPO on the
pairs of the policy as it stands, and reads no column.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.preference.dpo import dpo
from whet.losses.terms import Responses


@preference_loss(needs={"logprobs", "reference"}, answer_columns={"from_reference": "alpha"})
def xpo(
    chosen: Responses,
    rejected: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    alpha: Annotated[float, Field(ge=0)] = 1e-5,
) -> Tensor:
    """DPO's loss plus alpha times the log-probability of the reference's answers, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0]), anchor=tensor([-10.0]), length=tensor([5.0]),
    ...               col={"from_reference": tensor([0.0])})
    >>> l = Responses(policy=tensor([-11.0]), anchor=tensor([-10.0]), length=tensor([5.0]),
    ...               col={"from_reference": tensor([1.0])})
    >>> f"{xpo(w, l, alpha=0.01).item():.6f}"                                          # 0.598139 − 0.11
    '0.488139'
    """
    loss = dpo(chosen, rejected, beta=beta)
    return loss + alpha * (_of_reference(chosen) + _of_reference(rejected)) if alpha else loss


def _of_reference(responses: Responses) -> Tensor:
    return responses.column("from_reference") * responses.logprob("sum")
