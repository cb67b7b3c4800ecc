"""SPPO: self-play preference optimisation (Wu et al. 2024, arXiv:2405.00675).

    L = Σ_{y of both} ( log π(y)/π_t(y) − eta (P(y beats π_t) − ½) )²

P is the answer column "win_rate": how often the answer wins against answers of π_t, the policy that wrote it and the
reference here (in rounds, that of the round before). Every answer is fitted on its own: one that wins half of the time
stays as likely as it was, whatever it stands beside. Against any preference, cyclic ones too, rounds go to the policy
that none beats more than half of the time. eta is large (targets are in the hundreds of nats), so log-probabilities are
summed and never averaged.
The authors' code halves the loss, as `half` does, and its win rates include each answer against itself, which pulls
them to ½. TRL's "sppo_hard" knows no win rates, as `win_rates=false`: the chosen answer has 1, the rejected one 0, and
its β is 1/eta.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.terms import Responses


@preference_loss(needs={"logprobs", "reference"}, answer_columns={"win_rate": "win_rates"})
def sppo(
    chosen: Responses,
    rejected: Responses,
    *,
    eta: Annotated[float, Field(gt=0)] = 1e3,
    win_rates: bool = True,
    half: bool = False,
) -> Tensor:
    """Squared distances of both log-ratios from eta times how much more than half they win, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> l = Responses(policy=tensor([-11.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> [sppo(w, l, eta=10.0, win_rates=False, half=half).item() for half in (False, True)]     # (1 − 5)² + (−1 + 5)²
    [32.0, 16.0]
    """
    wins = chosen.column("win_rate") if win_rates else 1.0
    loses = rejected.column("win_rate") if win_rates else 0.0
    both = (chosen.logratio("sum") - eta * (wins - 0.5)).square() + (
        rejected.logratio("sum") - eta * (loses - 0.5)
    ).square()
    return 0.5 * both if half else both
