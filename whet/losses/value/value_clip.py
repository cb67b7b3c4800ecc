"""PPO's clipped value loss: of its public code, not its paper (as in Ziegler et al. 2019, arXiv:1909.08593, code).

    L_t = ½ max((V − R)², (clip(V, V_old − clip, V_old + clip) − R)²)

A value may move by at most `clip` per batch towards its target: beyond that its gradient is 0. A step away from the
target is not clipped. `clip` is in units of the reward.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from whet.losses import value_loss


@value_loss
def value_clip(value: Tensor, old: Tensor, target: Tensor, *, clip: Annotated[float, Field(gt=0)] = 0.2) -> Tensor:
    """Half the larger squared error of the value and of the value kept within `clip` of the old one.

    >>> new, old, target = torch.tensor([0.5, -0.5]), torch.tensor([0.0, 0.0]), torch.tensor([1.0, 1.0])
    >>> [f"{x:.3f}" for x in value_clip(new, old, target).tolist()]        # ½(0.2 − 1)², ½(−0.5 − 1)²
    ['0.320', '1.125']
    """
    near = torch.clamp(value, old - clip, old + clip)
    return 0.5 * torch.maximum((value - target).square(), (near - target).square())
