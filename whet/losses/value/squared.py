"""Squared error of a critic.

    L_t = ½ (V_t − R_t)²        R: the value target (advantage before whitening + value before the update)

A critic may move as far as its target asks; `value_clip` bounds the move.
"""

from __future__ import annotations

from torch import Tensor

from whet.losses import value_loss


@value_loss
def squared(value: Tensor, old: Tensor, target: Tensor) -> Tensor:
    """Half the squared error per counted token; the value before the update is not used.

    >>> import torch
    >>> squared(torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([3.0])).tolist()
    [2.0]
    """
    return 0.5 * (value - target).square()
