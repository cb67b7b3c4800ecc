"""One token for each row: Gumbel-max over the distribution that temperature and truncation leave, in two stages.

    score   = logits / T, over the kept ids;  w_b = log Σ_{v in block b} exp score_v,  blocks of `BLOCK` ids
    b       = argmax_b  w_b + noise_b                 P(b) = exp w_b / Σ exp w
    token   = argmax_{v in b}  score_v + noise_v      P(token | b) = exp(score_v − w_b)
    logprob = score[token] − log Σ_all exp score      over the whole vocabulary
    mass    = log Σ_kept exp score − log Σ_all exp score

Both stages are exact, so their product is the softmax; logprob − mass is the log-probability of the distribution drawn
from. Two stages need noise for V / `BLOCK` + `BLOCK` ids where one needs V, and the sums are those of the log-softmax:
in one stage the noise costs as much as the language-model head. Like one stage, and unlike a cumulative sum, a rounding
difference in the logits almost never becomes another token.
"""

from __future__ import annotations

import torch
from torch import Tensor

from whet.rollout.config import SamplingConfig
from whet.rollout.noise import gumbel
from whet.rollout.truncate import threshold

BLOCK = 64
"""Part of what a key means: another number draws other tokens."""


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
    kept = scores[:, :vocabulary]
    if sampling.greedy:
        token = kept.argmax(dim=1)
        logprob = kept.gather(1, token[:, None])[:, 0] - scores.logsumexp(dim=1)
        return token, logprob, logprob
    if sampling.truncates:
        least = threshold(kept, top_k=sampling.top_k, top_p=sampling.top_p, min_p=sampling.min_p)
        kept = kept.masked_fill(kept < least[:, None], float("-inf"))
    token, kept_total = _two_stages(kept, seed, index)
    cut = sampling.truncates or vocabulary < scores.shape[1]
    total = scores.logsumexp(dim=1) if cut else kept_total
    logprob = kept.gather(1, token[:, None])[:, 0] - total
    return token, logprob, kept_total - total if cut else None


def _two_stages(kept: Tensor, seed: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """(token, log Σ exp kept), `[n]` each; ids that are cut have score -inf."""
    rows, width = kept.shape
    blocks = -(-width // BLOCK)
    greatest = kept.amax(dim=1, keepdim=True)
    weight = kept.new_full((rows, blocks * BLOCK), float("-inf"))
    torch.sub(kept, greatest, out=weight[:, :width])
    by_block = weight.view(rows, blocks, BLOCK)
    mass = by_block.exp().sum(dim=2)
    # ids count up from 0, blocks count down from -2: no counter of the noise is used twice
    block = (mass.log() + gumbel(seed, index, -2 - torch.arange(blocks, device=kept.device))).argmax(dim=1)
    inside = by_block[torch.arange(rows, device=kept.device), block]
    ids = block[:, None] * BLOCK + torch.arange(BLOCK, device=kept.device)
    place = (inside + gumbel(seed, index, ids)).argmax(dim=1)
    return block * BLOCK + place, greatest[:, 0] + mass.sum(dim=1).log()
