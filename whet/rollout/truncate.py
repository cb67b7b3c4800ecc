"""Top-k, top-p and min-p as one threshold per row, and the log of the probability that is kept.

The order is the field's: temperature, top-k, top-p over what top-k kept, min-p relative to the likeliest token.
Each cut keeps every score at or above a threshold, so ties stay or go together and the kept set depends on the scores
alone, never on the order a sort leaves them in. Rows whose likeliest `WIDTH` tokens do not hold `top_p` are looked at
again `WIDER` times as wide, and so on: only a nearly flat row is sorted as a whole.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

WIDTH = 64
WIDER = 16
SORT_ALL = 1024
"""Up to this many scores, sorting a row costs less than finding its best 64."""


def threshold(scores: Tensor, *, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0) -> Tensor:
    """The least score that is kept in each row: `scores` `[n, V]` (logits / T, float32) → `[n]`.

    >>> scores = torch.tensor([[0.5, 0.25, 0.15, 0.1]]).log()
    >>> [round(threshold(scores, **cut).exp().item(), 4) for cut in ({"top_k": 3}, {"top_p": 0.6}, {"min_p": 0.25}, {})]
    [0.15, 0.25, 0.125, 0.0]
    """
    least = scores.new_full(scores.shape[:1], -math.inf)
    total = None
    if 0 < top_k < scores.shape[1]:
        least = scores.topk(top_k, dim=1, sorted=False).values.amin(dim=1)
        total = masked_logsumexp(scores, least)
    if top_p < 1.0:
        total = scores.logsumexp(dim=1) if total is None else total
        least = torch.maximum(least, _nucleus(scores, total, top_p, width=min(top_k or WIDTH, scores.shape[1])))
    if min_p > 0.0:
        least = torch.maximum(least, scores.amax(dim=1) + math.log(min_p))
    return least


def _nucleus(scores: Tensor, total: Tensor, top_p: float, *, width: int) -> Tensor:
    """The score of the token whose probability carries the cumulative sum to `top_p`."""
    best = _descending(scores, width)
    probability = (best - total[:, None]).exp()
    before = probability.cumsum(dim=1) - probability
    inside = (before < top_p).sum(dim=1).clamp(min=1)
    least = best.gather(1, inside[:, None] - 1)[:, 0]
    open_ended = inside == best.shape[1]
    if best.shape[1] < scores.shape[1] and bool(open_ended.any()):
        rest = scores[open_ended]
        least[open_ended] = _nucleus(rest, total[open_ended], top_p, width=min(WIDER * width, rest.shape[1]))
    return least


def _descending(scores: Tensor, width: int) -> Tensor:
    """The `width` greatest scores of each row, or all of them where that is no more work."""
    if width < scores.shape[1] and scores.shape[1] > SORT_ALL:
        return scores.topk(width, dim=1).values
    if scores.device.type == "cpu":  # numpy sorts values, without the ids, nine times as fast
        return torch.from_numpy(np.sort(scores.numpy(), axis=1)).flip(1)
    return scores.sort(dim=1, descending=True).values


def masked_logsumexp(scores: Tensor, least: Tensor) -> Tensor:
    """log Σ exp(score) over the scores at or above `least`, per row."""
    return scores.masked_fill(scores < least[:, None], -math.inf).logsumexp(dim=1)
