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
    rows, blocks = scores.shape[0], -(-vocabulary // BLOCK)
    # log-probabilities are differences of scores: taken below the greatest one they keep the digits that matter
    greatest = scores[:, :vocabulary].amax(dim=1, keepdim=True)
    below = scores.new_full((rows, blocks * BLOCK), float("-inf"))
    known = below[:, :vocabulary]
    torch.sub(scores[:, :vocabulary], greatest, out=known)
    cut = sampling.truncates or vocabulary < scores.shape[1]
    total = (scores - greatest).logsumexp(dim=1) if cut or sampling.greedy else None
    if sampling.greedy:
        assert total is not None
        return known.argmax(dim=1), -total, -total
    if sampling.truncates:
        least = threshold(known, top_k=sampling.top_k, top_p=sampling.top_p, min_p=sampling.min_p)
        known.masked_fill_(known < least[:, None], float("-inf"))
    token, kept = _two_stages(below.view(rows, blocks, BLOCK), seed, index)
    drawn = below.gather(1, token[:, None])[:, 0]
    return (token, drawn - kept, None) if total is None else (token, drawn - total, kept - total)


def _two_stages(below: Tensor, seed: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Scores by block `[n, blocks, BLOCK]`, 0 at most and -inf where cut → (token, log Σ exp), `[n]` each."""
    rows, blocks, _ = below.shape
    mass = below.exp().sum(dim=2)
    # ids count up from 0, blocks count down from -2: no counter of the noise is used twice
    block = (mass.log() + gumbel(seed, index, -2 - torch.arange(blocks, device=below.device))).argmax(dim=1)
    inside = below[torch.arange(rows, device=below.device), block]
    ids = block[:, None] * BLOCK + torch.arange(BLOCK, device=below.device)
    place = (inside + gumbel(seed, index, ids)).argmax(dim=1)
    return block * BLOCK + place, mass.sum(dim=1).log()
