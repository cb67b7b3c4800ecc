"""cDPO and rDPO: DPO for labels that are wrong with a known probability e (E. Mitchell's note, 2023; Chowdhury et al.
2024, arXiv:2403.00409).

    l(w, l) = DPO's loss of the pair as it is labelled
    cDPO:  L = (1 − e) l(w, l) + e l(l, w)                       least at βD = log((1 − e)/e)
    rDPO:  L = ((1 − e) l(w, l) − e l(l, w)) / (1 − 2e)          E over flips of L = DPO's loss of the true labels

`label_smoothing` is e; at 0 both are DPO. rDPO has no least value: where βD is large it falls by eβD/(1 − 2e) without
end, so it wants few epochs or a small e. TRL's loss "robust" is rDPO; its "sigmoid" once was cDPO and now takes no
notice of its own option `label_smoothing`, so the same settings have meant two objectives.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from whet.losses import preference_loss
from whet.losses.preference.dpo import dpo
from whet.losses.terms import Responses


@preference_loss(needs={"logprobs", "reference"})
def cdpo(
    chosen: Responses,
    rejected: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.1,
) -> Tensor:
    """DPO's loss averaged over what the true label may be, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> l = Responses(policy=tensor([-11.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> f"{cdpo(w, l).item():.6f}"                                                              # D = 2
    '0.618139'
    """
    return dpo(chosen, rejected, beta=beta, label_smoothing=label_smoothing)


@preference_loss(needs={"logprobs", "reference"})
def rdpo(
    chosen: Responses,
    rejected: Responses,
    *,
    beta: Annotated[float, Field(gt=0)] = 0.1,
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.1,
) -> Tensor:
    """The loss whose mean over flipped labels is DPO's on the true ones, per pair.

    >>> from torch import tensor
    >>> w = Responses(policy=tensor([-9.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> l = Responses(policy=tensor([-11.0]), anchor=tensor([-10.0]), length=tensor([5.0]))
    >>> f"{rdpo(w, l).item():.6f}"                                                              # D = 2
    '0.573139'
    """
    kept, flipped = dpo(chosen, rejected, beta=beta), dpo(rejected, chosen, beta=beta)
    return ((1 - label_smoothing) * kept - label_smoothing * flipped) / (1 - 2 * label_smoothing)
