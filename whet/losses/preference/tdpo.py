"""TDPO: token-level DPO, which also compares forward KLs (Zeng et al. 2024, arXiv:2404.11999, section 4).

    K(y) = Σ_t KL(ref(· | x, y_<t) ‖ π(· | x, y_<t))        D as in DPO
    TDPO1:  L = −log σ(β (D − (K(y_l) − K(y_w))))
    TDPO2:  L = −log σ(β (D − alpha (K(y_l) − sg K(y_w))))

K sums over the whole vocabulary at every counted position, with gradient: the statistic `forward_kl`. In TDPO2 the
chosen response's K is a constant, so only the rejected one's is held back. alpha = 0 is DPO; π = ref gives log 2.
All log-probabilities and K are sums over the response.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss, statistic
from whet.losses.terms import Responses


@statistic(needs={"reference"})
def forward_kl(logits: Tensor, other: Tensor | None) -> Tensor:
    """KL(other ‖ this) of the next-token distributions, in nats; the gradient goes to `logits` only.

    >>> import torch
    >>> uniform, other = torch.zeros(1, 2), torch.tensor([[0.75, 0.25]]).log()
    >>> f"{forward_kl(uniform, other).item():.6f}"                  # 0.75 log 1.5 + 0.25 log 0.5
    '0.130812'
    """
    assert other is not None, "forward_kl compares with a second model's logits"
    second = other.detach().log_softmax(dim=-1)
    return (second.exp() * (second - logits.log_softmax(dim=-1))).sum(dim=-1)


@preference_loss(needs={"logprobs", "reference", "forward_kl"})
def tdpo1(chosen: Responses, rejected: Responses, *, beta: Annotated[float, Field(gt=0)] = 0.1) -> Tensor:
    """DPO whose margin is lessened by the rejected response's forward KL over the chosen one's, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0]), anchor=tensor([-10.0]), length=tensor([5.0]),
    ...               stat={"forward_kl": tensor([1.0])})
    >>> l = Responses(policy=tensor([-11.0]), anchor=tensor([-10.0]), length=tensor([5.0]),
    ...               stat={"forward_kl": tensor([3.0])})
    >>> f"{tdpo1(w, l).item():.6f}"                                 # D = 2, K difference 2: log 2
    '0.693147'
    """
    drift = rejected.stat["forward_kl"] - chosen.stat["forward_kl"]
    return -F.logsigmoid(beta * (chosen.logratio("sum") - rejected.logratio("sum") - drift))


@preference_loss(needs={"logprobs", "reference", "forward_kl"})
def tdpo2(
    chosen: Responses,
    rejected: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    alpha: Annotated[float, Field(ge=0)] = 0.5,
) -> Tensor:
    """DPO whose margin is lessened by alpha times the difference of forward KLs, the chosen one's constant, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0]), anchor=tensor([-10.0]), length=tensor([5.0]),
    ...               stat={"forward_kl": tensor([1.0])})
    >>> l = Responses(policy=tensor([-11.0]), anchor=tensor([-10.0]), length=tensor([5.0]),
    ...               stat={"forward_kl": tensor([3.0])})
    >>> f"{tdpo2(w, l, alpha=0.0).item():.6f}", f"{tdpo2(w, l).item():.6f}"               # β·2, β·1
    ('0.598139', '0.644397')
    """
    drift = rejected.stat["forward_kl"] - chosen.stat["forward_kl"].detach()
    return -F.logsigmoid(beta * (chosen.logratio("sum") - rejected.logratio("sum") - alpha * drift))
