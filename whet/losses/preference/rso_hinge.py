"""RSO's hinge-norm: a hinge on the margin that DPO takes the logistic of (Liu et al. 2023, arXiv:2309.06657).

    L = max(0, 1 − β (log π(y_w)/ref(y_w) − log π(y_l)/ref(y_l)))

β is the paper's γ; its companion "sigmoid-norm" is DPO. Beyond 1/β a pair has no gradient, and within it every pair
pulls alike, however wrong. The paper draws its pairs from an estimate of the best policy by rejection sampling; the
loss takes any. TRL's loss "hinge" is this one, not SLiC, which has no reference: `slic_hf`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.preference.gpo import gpo
from whet.losses.terms import Responses


@preference_loss(needs={"logprobs", "reference"})
def rso_hinge(chosen: Responses, rejected: Responses, *, beta: Annotated[float, Field(gt=0)] = 0.05) -> Tensor:
    """Hinge of β times the difference of log-ratios, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> l = Responses(policy=tensor([-11.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> f"{rso_hinge(w, l, beta=0.1).item():.6f}", f"{rso_hinge(w, l, beta=1.0).item():.6f}"     # D = 2
    ('0.800000', '0.000000')
    """
    return gpo(chosen, rejected, beta=beta, link="hinge")
