"""How tokens are averaged: one weight per counted token, made once per optimizer step over everything learned from.

    loss = Σ_n weight[n] · value[n]

GRPO, DAPO and Dr. GRPO differ in nothing else inside the loss. Responses without a counted token count nowhere. Tokens
whose advantage is 0 do count: what is dropped before the step is dropped from the batch.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from whet.batch import TokenBatch
from whet.losses import weighting


@weighting
def token_mean(batch: TokenBatch) -> Tensor:
    """1 / (all counted tokens): every token weighs the same, so a long response weighs more.

    SFT's mean, and DAPO's loss (Yu et al. 2025, arXiv:2503.14476, eq. 12).

    >>> from types import SimpleNamespace
    >>> from torch import tensor
    >>> lengths_1_3 = SimpleNamespace(row=tensor([0, 1, 1, 1]), counted=tensor([1, 4, 5, 6]), length=tensor([1, 3]))
    >>> token_mean(lengths_1_3).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    count = batch.counted.numel()
    return torch.full((count,), 1.0 / max(count, 1), device=batch.counted.device)


@weighting
def sequence_mean(batch: TokenBatch) -> Tensor:
    """1 / (responses · tokens of the own response): every response weighs the same.

    GRPO's loss (Shao et al. 2024, arXiv:2402.03300, eq. 3): long answers, good or bad, count less per token.

    >>> from types import SimpleNamespace
    >>> from torch import tensor
    >>> lengths_1_3 = SimpleNamespace(row=tensor([0, 1, 1, 1]), counted=tensor([1, 4, 5, 6]), length=tensor([1, 3]))
    >>> [f"{w:.4f}" for w in sequence_mean(lengths_1_3).tolist()]
    ['0.5000', '0.1667', '0.1667', '0.1667']
    """
    return (1.0 / _responses(batch) / batch.length.clamp(min=1))[batch.row]


@weighting
def fixed_length(batch: TokenBatch, *, length: Annotated[int, Field(ge=1)]) -> Tensor:
    """1 / (responses · length) with a constant length, whatever the responses' own.

    Dr. GRPO's loss (Liu et al. 2025, arXiv:2503.20783), where `length` is the longest response allowed. With
    `length=1` token terms are summed over each response: REINFORCE and RLOO as their papers write them.

    >>> from types import SimpleNamespace
    >>> from torch import tensor
    >>> lengths_1_3 = SimpleNamespace(row=tensor([0, 1, 1, 1]), counted=tensor([1, 4, 5, 6]), length=tensor([1, 3]))
    >>> fixed_length(lengths_1_3, length=4).tolist()
    [0.125, 0.125, 0.125, 0.125]
    """
    return torch.full((batch.counted.numel(),), 1.0 / length, device=batch.counted.device) / _responses(batch)


def _responses(batch: TokenBatch) -> Tensor:
    """Responses with at least one counted token."""
    return (batch.length > 0).sum().clamp(min=1)
