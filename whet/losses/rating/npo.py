"""NPO: negative preference optimisation, to make a model forget answers (Zhang et al. 2024, arXiv:2404.05868).

    ℓ(y) = log π(y)/ref(y)
    L = −(2/β) log σ(−β ℓ(y))    where the column "label" is 0: to be forgotten
        0                        where it is 1: to be kept

It is DPO's loss with the preferred answer left out. The mean runs over the answers to be forgotten alone; those to be
kept count only where something is added for them: `plus=[{loss: nll, coef: 1}]` is the authors' "grad_diff". The
reference is the model before it forgets. At π = ref the loss is (2/β) log 2 and pushes as hard as gradient ascent on
the likelihood does (weight 1); the weight 2 σ(βℓ) falls as an answer is forgotten, while gradient ascent, the limit of
small β, never stops and takes the model apart. The factor 2/β keeps the step's size apart from β: without it, as in a
plain −log σ(−βℓ), a β of 0.1 needs 20 times the learning rate. Log-probabilities are summed.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from whet.losses import rating_loss
from whet.losses.terms import Responses


@rating_loss(
    needs={"logprobs", "reference"},
    labels="undesirable",
    breaks={"good_answers_rise_and_bad_ones_fall": "an answer to be kept has no gradient here: add nll for it"},
)
def npo(responses: Responses, *, beta: Annotated[float, Field(gt=0)] = 0.1) -> Tensor:
    """2/β times the logistic loss of an answer's implicit reward falling, per response; 0 for those to be kept.

    >>> from torch import tensor
    >>> r = Responses(policy=tensor([-11.0, -10.0, -3.0]), anchor=tensor([-10.0] * 3), length=tensor([5.0] * 3),
    ...               col={"label": tensor([0.0, 0.0, 1.0])})
    >>> [f"{x:.6f}" for x in npo(r, beta=1.0).tolist()]                            # ℓ = −1 and 0; the last is kept
    ['0.626523', '1.386294', '0.000000']
    """
    forget = responses.column("label") <= 0
    loss = -2 / beta * F.logsigmoid(-beta * responses.logratio("sum"))
    return torch.where(forget, loss, torch.zeros_like(loss))
