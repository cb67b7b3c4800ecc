"""The forest's attention in plain operations, differentiated by torch: any device, dtype and soft-cap, in more memory.

    S = soft-cap(scale · Q Kᵀ),  lse_p = log Σ_k exp S,  out = Σ_p exp(lse_p − lse) · softmax(S) V

This is the page to read for what the fused paths compute; it serves where they do not (soft-capped scores).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from whet.models.flash import gather, pick
from whet.models.parts import FAR, Part, far


def softmax_forest(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sinks: Tensor | None,
    *,
    parts: Sequence[Part],
    scale: float,
    window: int | None,
    softcap: float | None = None,
) -> Tensor:
    """query `[T, heads, d]`, key and value `[T, kv_heads, d]`, sinks `[heads]` or None → `[T, heads, d_value]`."""
    wide = torch.promote_types(query.dtype, torch.float32)
    out = torch.zeros(*query.shape[:2], value.shape[-1], dtype=wide, device=query.device)
    lse = torch.full(query.shape[:2], -FAR, dtype=wide, device=query.device)
    for part in parts:
        o, logsum = _part(part, query, key, value, scale=scale, window=window, softcap=softcap)
        at = part.query_tokens
        o, logsum = pick(o, part.query_cells).to(wide), pick(logsum, part.query_cells)
        here = lse.index_select(0, at)
        whole = torch.logaddexp(here, logsum)
        merged = out.index_select(0, at) * (here - whole).exp()[..., None] + o * (logsum - whole).exp()[..., None]
        out, lse = out.index_copy(0, at, merged), lse.index_copy(0, at, whole)
    if sinks is not None:
        out = beside_sinks(out, lse, sinks.to(wide))
    return out.to(query.dtype)


def _part(
    part: Part, query: Tensor, key: Tensor, value: Tensor, *, scale: float, window: int | None, softcap: float | None
) -> tuple[Tensor, Tensor]:
    """Output `[B, heads, Q, d]` and log-sum-exp `[B, heads, Q]` of one part."""
    repeat = query.shape[1] // key.shape[1]
    k, v = (gather(x, part.key).repeat_interleave(repeat, dim=1) for x in (key, value))
    wide = torch.promote_types(query.dtype, torch.float32)
    mask = part.mask(window, wide)
    if mask is None and part.own:
        length = k.shape[2]
        mask = far(torch.ones(length, length, dtype=torch.bool, device=k.device).triu(1), wide)
    return attention_of(gather(query, part.query), k, v, mask, scale=scale, softcap=softcap)


def attention_of(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, scale: float, softcap: float | None
) -> tuple[Tensor, Tensor]:
    """softmax(S) V and log Σ exp S with S = soft-cap(scale · Q Kᵀ) + mask; `[B, heads, Q, d]` and `[B, heads, Q]`.

    >>> one = torch.ones(1, 1, 1, 1)
    >>> out, lse = attention_of(one, one, 3 * one, None, scale=2.0, softcap=None)
    >>> out.item(), lse.item()
    (3.0, 2.0)
    """
    scores = query @ key.transpose(2, 3) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.to(torch.promote_types(query.dtype, torch.float32))
    if mask is not None:
        scores = scores + mask
    lse = scores.logsumexp(-1)
    return (scores - lse[..., None]).exp().to(value.dtype) @ value, lse


def beside_sinks(out: Tensor, lse: Tensor, sinks: Tensor) -> Tensor:
    """Attention `[…, d]` with log-sum-exp `[…]` where a head has a sink s, a score without a value, to share with:
    out · exp(lse − lse ⊕ s) = out · σ(lse − s)."""
    return out * torch.sigmoid(lse - sinks)[..., None]
