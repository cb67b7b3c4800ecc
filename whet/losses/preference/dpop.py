"""DPOP: DPO that pays when the chosen answer becomes less likely (Pal et al. 2024, arXiv:2402.13228).

    r(y) = log π(y)/ref(y)        L = −log σ(β (r(y_w) − r(y_l) − lam · max(0, −r(y_w))))

The penalty stands inside the sigmoid and is multiplied by β. While r(y_w) ≥ 0 the loss is DPO's; below, the chosen
answer's gradient is 1 + lam times as large, which keeps pairs that differ in few tokens from both becoming unlikely.
At lam = 50 the loss of such a pair is linear and large at once, so gradients are clipped often in the first steps.
The authors' training code is not public.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.terms import Responses


@preference_loss(needs={"logprobs", "reference"})
def dpop(
    chosen: Responses,
    rejected: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.3,
    lam: Annotated[float, Field(ge=0)] = 50.0,
) -> Tensor:
    """DPO's loss of a margin lessened by lam times what the chosen answer has lost, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-11.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> l = Responses(policy=tensor([-13.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> f"{dpop(w, l).item():.4f}"                                               # D = 2, less 50 · 1, times 0.3
    '14.4000'
    """
    gained = chosen.logratio("sum")
    return -F.logsigmoid(beta * (gained - rejected.logratio("sum") - lam * (-gained).relu()))
