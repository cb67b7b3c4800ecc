"""The forest's attention on a flash kernel, forward and backward: the CPU's here, CUDA's in `varlen`.

    out = Σ_p exp(lse_p − L) · out_p,   L = log Σ_p exp lse_p          parts p, each a kernel call

Backward needs no gradient through the merge: with the merged output O and the merged log-sum-exp L of a token, a part's
probabilities are P = exp(S − L) and its score gradient dS = P ∘ (dO Vᵀ − rowsum(dO ∘ O)), the same formula that the
kernel uses for a whole softmax. So each part's backward is called with O and L in place of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from whet.models.parts import FAR, Part, Run

FLASH_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

P = TypeVar("P", Part, Run)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel(Generic[P]):
    """Attention of one part; rows are those of `part.query_tokens` and `part.key_tokens`, in their order.

    `forward(part, query, key, value, scale, window)` → output `[n, heads, d]` and log-sum-exp `[n, heads]`;
    `backward(part, grad, query, key, value, out, lse, scale, window)` → gradients of the part's queries
    `[n, heads, d]`, keys and values `[m, kv_heads, d]`. Both get whole tensors, `[T, …]`.
    """

    forward: Callable[[P, Tensor, Tensor, Tensor, float, int | None], tuple[Tensor, Tensor]]
    backward: Callable[..., tuple[Tensor, Tensor, Tensor]]


def flash_forest(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sinks: Tensor | None,
    *,
    parts: Sequence[P],
    kernel: Kernel[P],
    scale: float,
    window: int | None,
) -> Tensor:
    """query `[T, heads, d]`, key and value `[T, kv_heads, d]`, sinks `[heads]` or None → `[T, heads, d]`."""
    return _FlashForest.apply(query, key, value, sinks, parts, kernel, scale, window)  # type: ignore[no-any-return]


class _FlashForest(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        sinks: Tensor | None,
        parts: Sequence[Any],
        kernel: Kernel[Any],
        scale: float,
        window: int | None,
    ) -> Tensor:
        wide = torch.promote_types(query.dtype, torch.float32)
        out, lse = _merged(parts, kernel, query, key, value, scale, window)
        if sinks is not None:
            whole = torch.logaddexp(lse, sinks.to(wide))
            out, lse = out * (lse - whole).exp()[..., None], whole
        out = out.to(query.dtype)
        ctx.save_for_backward(query, key, value, out, lse, sinks)
        ctx.rest = parts, kernel, scale, window
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0].contiguous()
        query, key, value, out, lse, sinks = ctx.saved_tensors
        parts, kernel, scale, window = ctx.rest
        d_query, d_key, d_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        for part in parts:
            dq, dk, dv = kernel.backward(part, grad, query, key, value, out, lse, scale, window)
            d_query = _put(d_query, part.query_tokens, dq, add=not part.own)
            d_key = _put(d_key, part.key_tokens, dk, add=not part.own)
            d_value = _put(d_value, part.key_tokens, dv, add=not part.own)
        d_sinks = None
        if sinks is not None:
            inner = (grad * out).sum(-1).to(lse.dtype)
            d_sinks = -((sinks.to(lse.dtype) - lse).exp() * inner).sum(0).to(sinks.dtype)
        return d_query, d_key, d_value, d_sinks, None, None, None, None


def _merged(
    parts: Sequence[Any],
    kernel: Kernel[Any],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    window: int | None,
) -> tuple[Tensor, Tensor]:
    """Output `[T, heads, d]` and log-sum-exp `[T, heads]` over all parts, merged in float32 at least."""
    wide = torch.promote_types(query.dtype, torch.float32)
    if len(parts) == 1 and parts[0].query_tokens is None:
        out, lse = kernel.forward(parts[0], query, key, value, scale, window)
        return out, lse.to(wide)
    out = torch.empty(query.shape, dtype=wide, device=query.device)
    lse = torch.empty(query.shape[:2], dtype=wide, device=query.device)
    for part in parts:
        o, logsum = (x.to(wide) for x in kernel.forward(part, query, key, value, scale, window))
        at = part.query_tokens
        if not part.own:
            here, there = lse.index_select(0, at), logsum
            logsum = torch.logaddexp(here, there)
            share = (here - logsum).exp_()[..., None], (there - logsum).exp_()[..., None]
            o = out.index_select(0, at).mul_(share[0]).addcmul_(o, share[1])
        out, lse = _put(out, at, o, add=False), _put(lse, at, logsum, add=False)
    return out, lse


def _put(into: Tensor, at: Tensor | None, what: Tensor, *, add: bool) -> Tensor:
    """`into` with rows written or added; `what` itself where it is all rows. An index stands at most once in `at`."""
    if at is None:
        return what
    return into.index_add_(0, at, what) if add else into.index_copy_(0, at, what)


def gather(x: Tensor, index: Tensor) -> Tensor:
    """`[T, H, d]` at `[B, L]` → `[B, H, L, d]`."""
    return x.index_select(0, index.flatten()).view(*index.shape, *x.shape[1:]).transpose(1, 2)


def pick(x: Tensor, cells: Tensor | None) -> Tensor:
    """The real cells of `[B, H, L, …]` as `[n, H, …]`."""
    x = x.transpose(1, 2).flatten(0, 1)
    return x if cells is None else x.index_select(0, cells)


def _attend(
    part: Part, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None
) -> tuple[Tensor, Tensor]:
    mask = part.mask(window, query.dtype)
    causal = part.own and mask is None
    q, k, v = gather(query, part.query), gather(key, part.key), gather(value, part.key)
    out, lse = _forward(q, k, v, 0.0, causal, attn_mask=mask, scale=scale)
    return pick(out, part.query_cells), pick(lse, part.query_cells)


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
    dq, dk, dv = _backward(g, q, k, v, o, logsum.transpose(1, 2), 0.0, causal, attn_mask=mask, scale=scale)
    return pick(dq, part.query_cells), pick(dk, part.key_cells), pick(dv, part.key_cells)


CPU: Kernel[Part] = Kernel(forward=_attend, backward=_attend_back)
"""The kernel that torch brings for CPUs, on rectangles; its masks are added to the scores."""
