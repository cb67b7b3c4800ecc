"""MODPO: one objective's pairs beside the rewards of others (Zhou et al. 2023, arXiv:2310.03708).

    R(y) = (β log π(y)/ref(y) − m(y)) / w_k        m(y) = Σ_{j ≠ k} w_j r_j(y)
    L = −log σ(R(y_w) − R(y_l))

The pairs say what is better in objective k; the answer column "margin_reward" is m, the weighted sum of what the reward
models of the other objectives say of each answer. Weights of all objectives sum to 1. The policy then maximises the
weighted sum of all of them, and one run for each w draws a Pareto front. w_k = 1 with m = 0 is DPO, equal m of both
answers DPO with β / w_k: the smaller w_k, the steeper the loss, so 0 is not allowed.
Rewards of unequal scale need weights of unequal scale. Log-probabilities are summed.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.preference.dpo import logistic
from whet.losses.terms import Responses


@preference_loss(needs={"logprobs", "reference"}, answer_columns={"margin_reward": True})
def modpo(
    chosen: Responses,
    rejected: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    w_k: Annotated[float, Field(gt=0, le=1)] = 0.5,
) -> Tensor:
    """DPO's loss of what is left for objective k, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0]), anchor=tensor([-10.0]), length=tensor([5.0]),
    ...               col={"margin_reward": tensor([0.0])})
    >>> l = Responses(policy=tensor([-11.0]), anchor=tensor([-10.0]), length=tensor([5.0]),
    ...               col={"margin_reward": tensor([0.1])})
    >>> f"{modpo(w, l).item():.6f}"                                                    # (0.2 + 0.1) / 0.5
    '0.437488'
    """
    return logistic((_left(chosen, beta) - _left(rejected, beta)) / w_k, 0.0)


def _left(responses: Responses, beta: float) -> Tensor:
    return beta * responses.logratio("sum") - responses.column("margin_reward")
