"""Over what the probability ratio of a policy objective is taken: each token, or the whole response.

Both map log-ratios per counted token `[N]` to log-ratios per counted token `[N]`, so any objective takes either.
"""

from __future__ import annotations

import torch
from torch import Tensor

from whet.losses import ratio_pooling


@ratio_pooling
def token(log_ratio: Tensor, row: Tensor, length: Tensor) -> Tensor:
    """Every token has its own ratio, as in PPO, GRPO and DAPO.

    >>> [f"{x:.2f}" for x in token(torch.tensor([0.1, 0.3, 0.5]), torch.tensor([0, 0, 1]), torch.tensor([2, 1]))]
    ['0.10', '0.30', '0.50']
    """
    return log_ratio


@ratio_pooling
def sequence(log_ratio: Tensor, row: Tensor, length: Tensor) -> Tensor:
    """Every token of a response has the response's mean log-ratio: GSPO's s = (π(y)/π_old(y))^(1/|y|).

    Zheng et al. 2025 (arXiv:2507.18071), eq. 7. With weights that average inside a response (`sequence_mean`) the sum
    over its tokens is GSPO's one term per response, in value and in gradient. Clip ranges are about a thousandth of
    PPO's.

    >>> [f"{x:.2f}" for x in sequence(torch.tensor([0.1, 0.3, 0.5]), torch.tensor([0, 0, 1]), torch.tensor([2, 1]))]
    ['0.20', '0.20', '0.50']
    """
    total = torch.zeros(length.shape[0], dtype=log_ratio.dtype, device=log_ratio.device).index_add(0, row, log_ratio)
    return (total / length.clamp(min=1))[row]
