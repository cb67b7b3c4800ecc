"""Whitening of advantages: mean 0 and deviation 1 over the tokens that count (Ziegler et al. 2019, their code).

    Â_n = (A_n − mean(A)) / (std(A) + eps)        over the kept tokens of the whole step

Not an advantage itself but what PPO does to one, after the critic's targets are made.
"""

from __future__ import annotations

import torch
from torch import Tensor

from whet.advantages.centre import centred


def whiten(advantage: Tensor, *, keep: Tensor | None = None, eps: float = 1e-8) -> Tensor:
    """Advantages `[N]` with mean 0 and deviation 1 (of the whole, not of a sample) over those to `keep`; 0 elsewhere.

    Equal advantages become exactly 0.

    >>> whiten(torch.tensor([1.0, 3.0, 9.0]), keep=torch.tensor([True, True, False])).tolist()
    [-1.0, 1.0, 0.0]
    """
    chosen = torch.ones_like(advantage, dtype=torch.bool) if keep is None else keep
    if not bool(chosen.any()):
        return torch.zeros_like(advantage)
    above = centred(advantage[chosen])
    result = torch.zeros_like(advantage)
    result[chosen] = above / (above.square().mean().sqrt() + eps)
    return result
