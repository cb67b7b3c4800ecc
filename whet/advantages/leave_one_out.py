"""Reward minus the mean of the OTHER responses' rewards: RLOO (Ahmadian et al. 2024, arXiv:2402.14740, section 3).

    A_i = r_i − (1/(K − 1)) Σ_{j ≠ i} r_j  =  K/(K − 1) · (r_i − mean(r))

The baseline does not depend on the own sample, so the gradient is unbiased at any K ≥ 2.
"""

from __future__ import annotations

from torch import Tensor

from whet.advantages import advantage
from whet.advantages.centre import centred
from whet.advantages.returns import per_group


@advantage(needs={"siblings"})
@per_group
def leave_one_out(rewards: Tensor) -> Tensor:
    """Each response's reward minus the mean of its siblings' without its own.

    >>> import torch
    >>> [f"{a:.4f}" for a in leave_one_out.__wrapped__(torch.tensor([1.0, 0.0, 0.0, 1.0]))]
    ['0.6667', '-0.6667', '-0.6667', '0.6667']
    """
    count = rewards.shape[-1]
    return centred(rewards) * (count / (count - 1))
