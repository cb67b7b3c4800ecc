"""Negative log-likelihood: supervised fine-tuning, and the term that keeps a preference method near its good answers.

    L_t = −log π(y_t | x, y_<t)

Cross-entropy of the tokens that count (what the assistant wrote, stop token included).
"""

from __future__ import annotations

from torch import Tensor

from whet.losses import token_loss


@token_loss(needs={"logprobs"})
def nll(logprobs: Tensor) -> Tensor:
    """−log π per counted token.

    >>> import torch
    >>> [f"{x:.6f}" for x in nll(torch.tensor([0.5, 0.25]).log()).tolist()]
    ['0.693147', '1.386294']
    """
    return -logprobs
