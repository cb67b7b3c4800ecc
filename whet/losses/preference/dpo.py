"""DPO: direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290, eq. 7).

    D = log π(y_w)/ref(y_w) − log π(y_l)/ref(y_l)        M = βD − offset · m
    L = −(1 − e) log σ(M) − e log σ(−M)

e = 0 is DPO; 0 < e < 0.5 is its conservative form, cDPO (E. Mitchell's note, 2023): labels are wrong with probability
e, and the loss is least at M = log((1 − e)/e) instead of at infinity. With `offset` above 0 a pair must be ahead by as
much as its column `margin`, m, says that it is better: DPO with an offset (Amini et al. 2024, arXiv:2402.10571).
Log-probabilities are summed (`reduce="sum"`); "mean" is the length-normalised form, whose β is larger by about |y|.
At π = ref the loss is log 2 whatever β. Often both log-probabilities fall while their difference grows.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.terms import Responses
from whet.types import Reduce


@preference_loss(needs={"logprobs", "reference"}, columns={"margin": "offset"})
def dpo(
    chosen: Responses,
    rejected: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0,
    reduce: Reduce = "sum",
    offset: Annotated[float, Field(ge=0)] = 0.0,
) -> Tensor:
    """Logistic loss of β times the difference of log-ratios, per pair; `offset` > 0 scales the column "margin".

    >>> from dataclasses import replace
    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> l = Responses(policy=tensor([-11.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> f"{dpo(w, l).item():.6f}", f"{dpo(w, l, label_smoothing=0.1).item():.6f}"          # D = 2
    ('0.598139', '0.618139')
    >>> f"{dpo(replace(w, col={'margin': tensor([0.1])}), l, offset=1.0).item():.6f}"              # 0.2 − 0.1
    '0.644397'
    """
    margin = beta * (chosen.logratio(reduce) - rejected.logratio(reduce))
    if offset:
        margin = margin - offset * chosen.column("margin")
    return logistic(margin, label_smoothing)


def logistic(margin: Tensor, wrong: Tensor | float) -> Tensor:
    """−(1 − e) log σ(m) − e log σ(−m): the cross-entropy of σ(m) with a label that is wrong with probability e.

    >>> import torch
    >>> [f"{logistic(torch.tensor(0.2), wrong).item():.6f}" for wrong in (0.0, 0.1, 1.0)]
    ['0.598139', '0.618139', '0.798139']
    """
    return -(1 - wrong) * F.logsigmoid(margin) - wrong * F.logsigmoid(-margin)
