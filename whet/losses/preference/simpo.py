"""SimPO: mean log-probabilities apart by a margin, no reference (Meng et al. 2024, arXiv:2405.14734, eq. 6).

    L = −log σ(β (mean log π(y_w) − mean log π(y_l)) − γ)        γ = β · gamma_ratio

Means are over the answer's counted tokens, so length buys nothing, and β is 2 to 10 where DPO's is 0.1.
`gamma_ratio` is γ/β, the margin in nats per token, as in the authors' code; the paper and TRL give γ itself. The
defaults are the authors' for Llama-3-Base; for other models they took β 2 to 10 and gamma_ratio 0.1 to 0.8.
Nothing holds π near where it began, so the learning rate does: the authors warn of 1e-5 where they use 3e-7 to 1e-6.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.terms import Responses


@preference_loss(needs={"logprobs"})
def simpo(
    chosen: Responses,
    rejected: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 2.0,
    gamma_ratio: Annotated[float, Field(ge=0)] = 0.5,
) -> Tensor:
    """Logistic loss of β times (the difference of mean log-probabilities less gamma_ratio), per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-2.0]), length=tensor([4.0]))                               # −0.5 a token
    >>> l = Responses(policy=tensor([-8.0]), length=tensor([10.0]))                              # −0.8
    >>> f"{simpo(w, l, beta=2.5, gamma_ratio=0.55).item():.6f}"                                  # γ = 1.375
    '1.053701'
    """
    return -F.logsigmoid(beta * (chosen.logprob("mean") - rejected.logprob("mean") - gamma_ratio))
