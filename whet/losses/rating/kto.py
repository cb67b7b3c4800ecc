"""KTO: Kahneman–Tversky optimisation from single labelled answers (Ethayarajh et al. 2024, arXiv:2402.01306, eq. 8).

    ℓ(y) = log π(y)/ref(y)        z0 = max(0, mean of ℓ over mismatched rows), a constant
    L = desirable · (1 − σ(β(ℓ − z0)))       where the column "label" is 1
        undesirable · (1 − σ(β(z0 − ℓ)))     where it is 0

A mismatched row (column "mismatched" = 1) is an answer under another task's prompt: it estimates KL(π ‖ ref) and is
learned from nowhere else, so its own loss is 0. z0 is taken over the whole optimizer step, without gradient. With n_D
desirable and n_U undesirable answers the paper advises desirable·n_D / (undesirable·n_U) between 1 and 4/3.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from whet.errors import DataError
from whet.losses import rating_loss
from whet.losses.terms import Responses


@rating_loss(needs={"logprobs", "reference"}, couples="step", labels=True, mismatched=True)
def kto(
    responses: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    desirable: Annotated[float, Field(gt=0)] = 1.0,
    undesirable: Annotated[float, Field(gt=0)] = 1.0,
) -> Tensor:
    """One minus the value of each answer relative to the reference point z0, per response; 0 for mismatched rows.

    >>> from torch import tensor
    >>> r = Responses(policy=tensor([-9.0, -11.0, -12.0]), anchor=tensor([-10.0] * 3), length=tensor([5.0] * 3),
    ...               col={"label": tensor([1.0, 0.0, 1.0]), "mismatched": tensor([0.0, 0.0, 1.0])})
    >>> [f"{x:.6f}" for x in kto(r).tolist()]                                 # ℓ = 1, −1, −2; z0 = 0
    ['0.475021', '0.475021', '0.000000']
    """
    ratio, mismatched = responses.logratio("sum"), responses.column("mismatched") > 0
    gain = beta * (ratio - reference_point(ratio, mismatched))
    good = responses.column("label") > 0
    loss = torch.where(good, desirable * (-gain).sigmoid(), undesirable * gain.sigmoid())
    return torch.where(mismatched, torch.zeros_like(loss), loss)


def reference_point(ratio: Tensor, mismatched: Tensor) -> Tensor:
    """z0: the mean log-ratio of the mismatched rows, at least 0, without gradient.

    >>> reference_point(torch.tensor([5.0, 1.0, 3.0]), torch.tensor([False, True, True])).item()
    2.0
    """
    if not bool(mismatched.any()):
        raise DataError(
            "kto got a step without mismatched rows, so its reference point is unknown; "
            "give a step answers to at least two different prompts"
        )
    return ratio.detach()[mismatched].mean().clamp(min=0.0)
