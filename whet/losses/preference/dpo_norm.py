"""Length-normalised DPO: DPO of mean log-ratios, as Tülu 3 and OLMo 2 use it (Lambert et al. 2024, arXiv:2411.15124).

    L = −log σ(β (mean log π(y_w)/ref(y_w) − mean log π(y_l)/ref(y_l)))

Means are over the answer's counted tokens, so a longer answer has no larger margin and β is some |y| times DPO's:
5 against 0.1. It is `dpo` with other defaults; between answers of n tokens each it is DPO at β/n.
TRL's loss "sigmoid_norm" is the same.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.preference.dpo import dpo
from whet.losses.terms import Responses
from whet.types import Reduce


@preference_loss(needs={"logprobs", "reference"})
def dpo_norm(
    chosen: Responses,
    rejected: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 5.0,
    reduce: Reduce = "mean",
) -> Tensor:
    """Logistic loss of β times the difference of mean log-ratios, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> l = Responses(policy=tensor([-11.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> f"{dpo_norm(w, l, beta=0.5).item():.6f}"                                  # 0.5 · (0.2 + 0.2): as DPO's at 2
    '0.598139'
    """
    return dpo(chosen, rejected, beta=beta, reduce=reduce)
