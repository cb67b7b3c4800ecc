"""One token for each row: Gumbel-max over the distribution that temperature and truncation leave.

token   = argmax over the kept ids of  score + noise,   score = logits / T
logprob = score[token] − log Σ_all exp score            over the whole vocabulary
mass    = log Σ_kept exp score − log Σ_all exp score    so that logprob − mass is of the distribution drawn from
"""

from __future__ import annotations

import torch
from torch import Tensor

from whet.rollout.config import SamplingConfig
from whet.rollout.noise import gumbel
from whet.rollout.truncate import threshold


def draw_tokens(
    scores: Tensor, seed: Tensor, index: Tensor, *, sampling: SamplingConfig, vocabulary: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Scores `[n, V]`, seeds and token indices `[n]` → ids, log-probabilities, log masses `[n]` (None: nothing cut).

    Ids from `vocabulary` up are never drawn; they are part of what is cut. Greedy keeps one token, so its log mass is
    its log-probability.

    >>> scores, at = torch.tensor([[0.5, 0.3, 0.2]]).log(), torch.tensor([0])
    >>> token, logprob, mass = draw_tokens(scores, at, at, sampling=SamplingConfig(top_k=2), vocabulary=3)
    >>> round(mass.exp().item(), 4)
    0.8
    """
    total = scores.logsumexp(dim=1)
    kept = scores[:, :vocabulary]
    if sampling.greedy:
        token = kept.argmax(dim=1)
        logprob = kept.gather(1, token[:, None])[:, 0] - total
        return token, logprob, logprob
    if sampling.truncates:
        least = threshold(kept, top_k=sampling.top_k, top_p=sampling.top_p, min_p=sampling.min_p)
        kept = kept.masked_fill(kept < least[:, None], float("-inf"))
    cut = sampling.truncates or vocabulary < scores.shape[1]
    noise = gumbel(seed, index, torch.arange(vocabulary, device=scores.device))
    token = noise.add_(kept).argmax(dim=1)
    logprob = kept.gather(1, token[:, None])[:, 0] - total
    return token, logprob, kept.logsumexp(dim=1) - total if cut else None
