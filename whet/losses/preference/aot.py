"""AOT: alignment of distributions by optimal transport (Melnyk et al. 2024, arXiv:2406.05882).

    ℓ(y) = log π(y)/ref(y)        u_(i): the i-th smallest of the step's u
    aot_unpaired   L = −log σ(β (ℓ(y_w)_(i) − ℓ(y_l)_(i)))
    aot            L = −log σ(β (u_(i) − v_(i)))        u = log π(y_w) − log π(y_l), v = the same of ref

Not each chosen answer is to beat its own rejected one, but the rewards of all chosen answers as a distribution those of
all rejected ones: rank by rank, which of all pairings of the step has the smallest loss. `aot` compares the policy's
margins with the reference's, so it needs pairs; `aot_unpaired` never looks at who stands beside whom.
Values depend on the whole optimizer step: a large `batch` is part of the method, ranks are taken over all processes,
and however a step is cut, the gradient is that of the whole. One pair a step is DPO. A value belongs to the pair whose
u (or chosen answer) has that rank, and with it the pair's weight. `label_smoothing` is cDPO's.
TRL's "aot" and "aot_unpaired" sort within one device's batch; what older code calls aot_pair is `aot_unpaired`.
Log-probabilities are summed. Sorting has no gradient of its own: which answer meets which is a constant.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.preference.dpo import logistic
from whet.losses.terms import Responses


@preference_loss(needs={"logprobs", "reference"}, couples="step")
def aot(
    chosen: Responses,
    rejected: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.01,
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0,
) -> Tensor:
    """Logistic loss of the policy's margins over the reference's of the same rank, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0, -9.0]), anchor=tensor([-9.0, -8.0]), length=tensor([5.0, 5.0]))
    >>> l = Responses(policy=tensor([-12.0, -10.0]), anchor=tensor([-10.0, -8.0]), length=tensor([5.0, 5.0]))
    >>> [f"{x:.6f}" for x in aot(w, l, beta=0.1).tolist()]                     # margins 3, 1; the reference's 1, 0
    ['0.598139', '0.644397']
    """
    assert chosen.anchor is not None and rejected.anchor is not None, "this view has no anchor"
    margin, against = chosen.logprob("sum") - rejected.logprob("sum"), chosen.anchor - rejected.anchor
    return logistic(beta * (margin - matched(against, margin)), label_smoothing)


@preference_loss(needs={"logprobs", "reference"}, couples="step")
def aot_unpaired(
    chosen: Responses,
    rejected: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.01,
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0,
) -> Tensor:
    """Logistic loss of each chosen log-ratio over the rejected one of the same rank, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0, -8.0]), anchor=tensor([-10.0, -10.0]), length=tensor([5.0, 5.0]))
    >>> l = Responses(policy=tensor([-9.0, -11.0]), anchor=tensor([-10.0, -10.0]), length=tensor([5.0, 5.0]))
    >>> [f"{x:.6f}" for x in aot_unpaired(w, l, beta=0.1).tolist()]                           # 1 − (−1) and 2 − 1
    ['0.598139', '0.644397']
    """
    good, bad = chosen.logratio("sum"), rejected.logratio("sum")
    return logistic(beta * (good - matched(bad, good)), label_smoothing)


def matched(values: Tensor, like: Tensor) -> Tensor:
    """The values in the order of `like`: its smallest place gets the smallest value, and so on.

    >>> from torch import tensor
    >>> matched(tensor([5.0, 3.0, 4.0]), like=tensor([0.2, 0.9, 0.1])).tolist()
    [4.0, 5.0, 3.0]
    """
    rank = like.argsort(stable=True).argsort()
    return values.sort(stable=True).values[rank]
