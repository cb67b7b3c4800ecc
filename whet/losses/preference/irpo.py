"""IRPO: DPO with the likelihood of what was chosen (iterative reasoning; Pang et al. 2024, arXiv:2404.19733).

    L = −log σ(β D) − alpha · log π(y_w) / |y_w|        D as in DPO, of sums

The likelihood is each chosen answer's own mean over its tokens, so a long answer counts no more than a short one. TRL
takes one mean over all tokens of the batch instead: `loss=dpo` with `plus=[{loss: nll, coef: alpha}]` is that form.
In the paper the chosen answer is a chain of thought that ends in the right result, the rejected one in a wrong one, and
each round's reference is the round before. The likelihood keeps the chosen answers from becoming less likely, as they
do under DPO alone. Regularised preference optimisation (Liu et al. 2024, arXiv:2405.16436) is the same with alpha 0.005
and β 0.01. At π = ref the loss is log 2 plus alpha times the chosen answer's negative log-likelihood a token.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.preference.dpo import dpo
from whet.losses.terms import Responses


@preference_loss(needs={"logprobs", "reference"})
def irpo(
    chosen: Responses,
    rejected: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    alpha: Annotated[float, Field(ge=0)] = 1.0,
) -> Tensor:
    """DPO's loss plus alpha times the chosen answer's mean negative log-likelihood, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0]), anchor=tensor([-10.0]), length=tensor([6.0]))
    >>> l = Responses(policy=tensor([-11.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> f"{irpo(w, l).item():.6f}"                                                     # 0.598139 + 9/6
    '2.098139'
    """
    return dpo(chosen, rejected, beta=beta) - alpha * chosen.logprob("mean")
