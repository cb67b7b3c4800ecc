"""Reward minus the mean of the prompt's rewards: Dr. GRPO's advantage (Liu et al. 2025, arXiv:2503.20783, section 3).

    A_i = r_i − mean(r)

The same for every token of a response. The own reward is part of the mean, which scales the gradient by (K − 1)/K and
changes nothing else; `leave_one_out` is the same without that factor.
"""

from __future__ import annotations

from torch import Tensor

from whet.advantages import advantage
from whet.advantages.centre import centred
from whet.advantages.returns import per_group


@advantage(needs={"siblings"})
@per_group
def group_mean(rewards: Tensor) -> Tensor:
    """Each response's reward minus its siblings' and its own mean.

    >>> import torch
    >>> group_mean.__wrapped__(torch.tensor([1.0, 0.0, 0.0, 1.0])).tolist()
    [0.5, -0.5, -0.5, 0.5]
    """
    return centred(rewards)
