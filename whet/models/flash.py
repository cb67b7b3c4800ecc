"""The forest's attention on a CPU, forward and backward, on the flash kernel that torch brings.

Backward needs no gradient through the merge: with the merged output O and the merged log-sum-exp L of a token, a part's
probabilities are P = exp(S − L) and its score gradient dS = P ∘ (dO Vᵀ − rowsum(dO ∘ O)), the same formula that the
kernel uses for a whole softmax. So each part's backward is called with O and L in place of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

FLASH_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
FAR = 1e30
"""A finite stand-in for infinity: exp(−FAR) is 0 and FAR − FAR is 0, where infinities would give NaN."""

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One kernel call: queries `[B, Q]` and keys `[B, K]` as token indices, padded where their segments are shorter.

    `query_cells` and `key_cells` are the real cells of those rectangles, flattened (None: all of them), and
    `query_tokens`, `key_tokens` the tokens there. `own` parts are causal by index; `reach` is the largest distance
    from a query back to a key.
    """

    query: Tensor
    key: Tensor
    query_cells: Tensor | None
    key_cells: Tensor | None
    query_tokens: Tensor
    key_tokens: Tensor
    query_real: Tensor
    key_real: Tensor
    query_position: Tensor
    key_position: Tensor
    reach: int
    own: bool
    masks: dict[tuple[int | None, torch.dtype], Tensor | None] = field(default_factory=dict)

    def mask(self, window: int | None, dtype: torch.dtype) -> Tensor | None:
        """What must be added to the scores, `[B or 1, 1, Q or 1, K]`; None where causality alone says it."""
        if window is not None and window > self.reach:
            window = None
        if (window, dtype) not in self.masks:
            self.masks[window, dtype] = self._mask(window, dtype)
        return self.masks[window, dtype]

    def _mask(self, window: int | None, dtype: torch.dtype) -> Tensor | None:
        if self.own:
            if window is None:
                return None
            length = torch.arange(self.key.shape[1], device=self.key.device)
            back = length[:, None] - length[None, :]
            return _far(((back >= 0) & (back < window))[None, None], dtype)
        seen = None if self.key_cells is None else self.key_real[:, None, None, :]
        if window is not None:
            near = (self.query_position[:, :, None] - self.key_position[:, None, :] < window)[:, None]
            seen = near if seen is None else near & seen
        return None if seen is None else _far(seen, dtype)


def _far(seen: Tensor, dtype: torch.dtype) -> Tensor:
    far = max(-FAR, torch.finfo(dtype).min / 2)
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, far)


def gather(x: Tensor, index: Tensor) -> Tensor:
    """`[T, H, d]` at `[B, L]` → `[B, H, L, d]`."""
    return x.index_select(0, index.flatten()).view(*index.shape, *x.shape[1:]).transpose(1, 2)


def pick(x: Tensor, cells: Tensor | None) -> Tensor:
    """The real cells of `[B, H, L, …]` as `[n, H, …]`."""
    x = x.transpose(1, 2).flatten(0, 1)
    return x if cells is None else x.index_select(0, cells)


def flash_forest(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sinks: Tensor | None,
    *,
    parts: Sequence[Part],
    scale: float,
    window: int | None,
) -> Tensor:
    """query `[T, heads, d]`, key and value `[T, kv_heads, d]`, sinks `[heads]` or None → `[T, heads, d]`."""
    return _FlashForest.apply(query, key, value, sinks, parts, scale, window)  # type: ignore[no-any-return]


class _FlashForest(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        sinks: Tensor | None,
        parts: Sequence[Part],
        scale: float,
        window: int | None,
    ) -> Tensor:
        wide = torch.promote_types(query.dtype, torch.float32)
        out = torch.empty(query.shape, dtype=wide)
        lse = torch.empty(query.shape[:2], dtype=wide)
        for part in parts:
            o, logsum = _attend(part, query, key, value, scale, window)
            o, logsum = pick(o, part.query_cells).to(wide), pick(logsum, part.query_cells)
            at = part.query_tokens
            if not part.own:
                here, there = lse.index_select(0, at), logsum
                logsum = torch.logaddexp(here, there)
                share = (here - logsum).exp_()[..., None], (there - logsum).exp_()[..., None]
                o = out.index_select(0, at).mul_(share[0]).addcmul_(o, share[1])
            out.index_copy_(0, at, o)
            lse.index_copy_(0, at, logsum)
        if sinks is not None:
            whole = torch.logaddexp(lse, sinks.to(wide))
            out, lse = out * (lse - whole).exp()[..., None], whole
        out = out.to(query.dtype)
        ctx.save_for_backward(query, key, value, out, lse, sinks)
        ctx.rest = parts, scale, window
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0].contiguous()
        query, key, value, out, lse, sinks = ctx.saved_tensors
        parts, scale, window = ctx.rest
        d_query, d_key, d_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        for part in parts:
            dq, dk, dv = _attend_back(part, grad, query, key, value, out, lse, scale, window)
            _put(d_query, part.query_tokens, pick(dq, part.query_cells), add=not part.own)
            _put(d_key, part.key_tokens, pick(dk, part.key_cells), add=not part.own)
            _put(d_value, part.key_tokens, pick(dv, part.key_cells), add=not part.own)
        d_sinks = None
        if sinks is not None:
            inner = (grad * out).sum(-1).to(lse.dtype)
            d_sinks = -((sinks.to(lse.dtype) - lse).exp() * inner).sum(0).to(sinks.dtype)
        return d_query, d_key, d_value, d_sinks, None, None, None


def _attend(
    part: Part, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None
) -> tuple[Tensor, Tensor]:
    mask = part.mask(window, query.dtype)
    causal = part.own and mask is None
    q, k, v = gather(query, part.query), gather(key, part.key), gather(value, part.key)
    out, lse = _forward(q, k, v, 0.0, causal, attn_mask=mask, scale=scale)
    return out, lse


def _attend_back(
    part: Part,
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    scale: float,
    window: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    mask = part.mask(window, query.dtype)
    causal = part.own and mask is None
    q, o, g = (gather(x, part.query) for x in (query, out, grad))
    k, v = gather(key, part.key), gather(value, part.key)
    logsum = lse.index_select(0, part.query.flatten()).view(*part.query.shape, -1)
    if part.query_cells is not None:
        logsum = logsum.masked_fill(~part.query_real[..., None], FAR)
    return _backward(g, q, k, v, o, logsum.transpose(1, 2), 0.0, causal, attn_mask=mask, scale=scale)


def _put(into: Tensor, at: Tensor, what: Tensor, *, add: bool) -> None:
    """Write or add rows; an index stands at most once in `at`."""
    if add:
        into.index_add_(0, at, what)
    else:
        into.index_copy_(0, at, what)
