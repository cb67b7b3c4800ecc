"""Two functions with the signatures of torch's variable-length flash kernels, in plain loops, for any type."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor


def _probabilities(q, k, causal, scale, left, lse=None):
    """Scores' softmax `[heads, n, m]` of one sequence and its log-sum-exp, or exp(scores − lse) with a given one."""
    repeat = q.shape[1] // k.shape[1]
    scores = torch.einsum("ihd,jhd->hij", q, k.repeat_interleave(repeat, 1)) * scale
    n, m = scores.shape[1:]
    if causal:
        back = torch.arange(n)[:, None] + (m - n) - torch.arange(m)[None, :]
        scores = scores.masked_fill((back < 0) | (back > (m if left is None else left)), -torch.inf)
    own = scores.logsumexp(-1) if lse is None else lse
    return (scores - own[..., None]).exp(), own


def _check(query, key, value, starts_q, starts_k, max_q, max_k, dropout, causal, left, right):
    """What the kernel asks of its arguments."""
    assert query.dim() == key.dim() == value.dim() == 3 and query.stride(-1) == key.stride(-1) == 1
    assert query.shape[1] % key.shape[1] == 0 and dropout == 0.0
    for starts, longest, count in ((starts_q, max_q, len(query)), (starts_k, max_k, len(key))):
        assert starts.dtype == torch.int32 and starts[0] == 0 and starts[-1] == count
        assert int(starts.diff().max()) == longest and int(starts.diff().min()) > 0
    assert len(starts_q) == len(starts_k) and (left is None) == (right is None)
    assert left is None or (causal and left >= 0 and right == 0)


def _sequences(starts_q, starts_k):
    pairs = zip(pairwise(starts_q.tolist()), pairwise(starts_k.tolist()), strict=True)
    return [(slice(*q), slice(*k)) for q, k in pairs]


def forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cum_seq_q: Tensor | None,
    cum_seq_k: Tensor | None,
    max_q: int,
    max_k: int,
    dropout_p: float,
    is_causal: bool,
    return_debug_mask: bool,
    *,
    scale: float | None = None,
    window_size_left: int | None = None,
    window_size_right: int | None = None,
    seqused_k: Tensor | None = None,
    alibi_slopes: Tensor | None = None,
):
    """`aten::_flash_attention_forward`: output `[n, heads, d]`, log-sum-exp `[heads, n]`, and three nobody looks at."""
    rest = cum_seq_q, cum_seq_k, max_q, max_k, dropout_p, is_causal, window_size_left, window_size_right
    _check(query, key, value, *rest)
    assert not return_debug_mask and seqused_k is alibi_slopes is None
    repeat = query.shape[1] // key.shape[1]
    out, dtype = torch.empty_like(query), torch.promote_types(query.dtype, torch.float32)
    lse = torch.empty(query.shape[1], query.shape[0], dtype=dtype)
    query, key, value = (x.to(dtype) for x in (query, key, value))
    for q, k in _sequences(cum_seq_q, cum_seq_k):
        p, own = _probabilities(query[q], key[k], is_causal, scale, window_size_left)
        out[q] = torch.einsum("hij,jhd->ihd", p, value[k].repeat_interleave(repeat, 1)).to(out.dtype)
        lse[:, q] = own
    nothing = torch.empty(0)
    return out, lse, torch.zeros(2, dtype=torch.uint64), nothing, nothing


def backward(
    grad_out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    logsumexp: Tensor,
    cum_seq_q: Tensor,
    cum_seq_k: Tensor,
    max_q: int,
    max_k: int,
    dropout_p: float,
    is_causal: bool,
    rng_state: Tensor,
    unused: Tensor,
    *,
    scale: float | None = None,
    window_size_left: int | None = None,
    window_size_right: int | None = None,
):
    """`aten::_flash_attention_backward`: probabilities are exp(scores − logsumexp), whoever made that."""
    rest = cum_seq_q, cum_seq_k, max_q, max_k, dropout_p, is_causal, window_size_left, window_size_right
    _check(query, key, value, *rest)
    assert logsumexp.is_contiguous() and logsumexp.shape == (query.shape[1], query.shape[0])
    assert grad_out.shape == out.shape == query.shape and rng_state.dtype == torch.uint64
    repeat, groups = query.shape[1] // key.shape[1], key.shape[1]
    grads = [torch.zeros_like(x) for x in (query, key, value)]
    dtype = torch.promote_types(query.dtype, torch.float32)
    grad_out, query, key, value, out = (x.to(dtype) for x in (grad_out, query, key, value, out))
    for q, k in _sequences(cum_seq_q, cum_seq_k):
        p, _ = _probabilities(query[q], key[k], is_causal, scale, window_size_left, logsumexp[:, q])
        g, keys, values = grad_out[q], key[k].repeat_interleave(repeat, 1), value[k].repeat_interleave(repeat, 1)
        slope = torch.einsum("ihd,jhd->hij", g, values) - (g * out[q]).sum(-1).t()[..., None]
        slope = p * slope * scale
        d_key, d_value = torch.einsum("hij,ihd->jhd", slope, query[q]), torch.einsum("hij,ihd->jhd", p, g)
        grads[0][q] = torch.einsum("hij,jhd->ihd", slope, keys).to(grads[0].dtype)
        grads[1][k] = d_key.unflatten(1, (groups, repeat)).sum(2).to(grads[1].dtype)
        grads[2][k] = d_value.unflatten(1, (groups, repeat)).sum(2).to(grads[2].dtype)
    return tuple(grads)
