"""Entropy bonus: a term that keeps the policy's distributions wide (Mnih et al. 2016, arXiv:1602.01783, section 4).

    L_t = −H(π(· | x, y_<t))

A positive coefficient raises the entropy. The gradient is that of the whole distribution, not of the sampled token.
"""

from __future__ import annotations

from torch import Tensor

from whet.losses import token_loss


@token_loss(needs={"entropy"})
def entropy_bonus(entropy: Tensor) -> Tensor:
    """−H per counted token.

    >>> import torch
    >>> entropy_bonus(torch.tensor([0.5, 2.0])).tolist()
    [-0.5, -2.0]
    """
    return -entropy
