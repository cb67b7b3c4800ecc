"""EXO on pairs: reverse KL of the model's choice of two to the label's (Ji et al. 2024, arXiv:2402.00856, eq. 16).

    z = β (log π(y_w)/ref(y_w) − log π(y_l)/ref(y_l))
    L = σ(z) (log σ(z) − log(1 − e)) + σ(−z) (log σ(−z) − log e)

DPO is the forward KL of the same two choices. e, `label_smoothing`, is the chance that the label is wrong; it cannot be
0, and the loss of a pair that is far wrong approaches −log e instead of growing, so its gradient vanishes: start from
the reference. The gradient goes through σ(z) both as weight and inside the logarithm. The authors' code has log e = −10
and β = 0.5 on dialogues.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.terms import Responses


@preference_loss(needs={"logprobs", "reference"})
def exo_pair(
    chosen: Responses,
    rejected: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    label_smoothing: Annotated[float, Field(gt=0, lt=0.5)] = 1e-3,
) -> Tensor:
    """KL(the model's choice ‖ the smoothed label), per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> l = Responses(policy=tensor([-11.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> f"{exo_pair(w, l).item():.6f}"                                                         # D = 2
    '2.422015'
    """
    margin = beta * (chosen.logratio("sum") - rejected.logratio("sum"))
    right = margin.sigmoid() * (F.logsigmoid(margin) - math.log1p(-label_smoothing))
    return right + (-margin).sigmoid() * (F.logsigmoid(-margin) - math.log(label_smoothing))
