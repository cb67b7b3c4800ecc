"""R-DPO: DPO of a reward that pays for length (Park et al. 2024, arXiv:2403.19159).

    L = −log σ(β (log π(y_w)/ref(y_w) − log π(y_l)/ref(y_l)) + alpha (|y_w| − |y_l|))

The best policy of reward − alpha |y| − β KL is ref · exp((reward − alpha |y|)/β), so the implicit reward is DPO's plus
alpha |y|. A chosen answer that is longer starts with a margin, hence teaches less; where the shorter one was chosen
more is learned. With the sign the other way round length would be sought. |y| counts the answer's tokens, so alpha is
in nats a token: 0.01 to 0.05; alpha = 0 and equal lengths are DPO.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.terms import Responses


@preference_loss(needs={"logprobs", "reference"})
def r_dpo(
    chosen: Responses,
    rejected: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    alpha: Annotated[float, Field(ge=0)] = 0.01,
) -> Tensor:
    """DPO's loss of a margin with alpha times the difference of lengths added, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-10.0]), anchor=tensor([-10.0]), length=tensor([6.0]))
    >>> l = Responses(policy=tensor([-10.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> f"{r_dpo(w, l, alpha=0.05).item():.6f}", f"{r_dpo(l, w, alpha=0.05).item():.6f}"    # log(1 + e^∓0.05)
    ('0.668460', '0.718460')
    """
    margin = beta * (chosen.logratio("sum") - rejected.logratio("sum"))
    return -F.logsigmoid(margin + alpha * (chosen.length - rejected.length))
