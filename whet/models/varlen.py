"""The forest's attention on CUDA: torch's flash kernel for sequences of any lengths that stand end to end.

The own part is one causal call over all segments, without padding or a copy of anything; every depth of shared prompts
is one more call without a mask. The kernel says what it takes: float16 or bfloat16, heads of at most 256 numbers and a
multiple of 8, compute capability 8.0, windows in causal calls only. A window that cuts a prefix would need a mask for
each query; it, float32 and soft-capped scores go through `softmax`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from whet.models.flash import Kernel
from whet.models.parts import Run

HALVES = (torch.float16, torch.bfloat16)
WIDEST, MULTIPLE, CAPABILITY = 256, 8, (8, 0)


def varlen_kernel(forward: Any, backward: Any) -> Kernel[Run]:
    """The kernel on two functions with the signatures of `aten::_flash_attention_forward` and `…_backward`.

    What they are called with is the part of both schemas that has been the same since torch 2.7: the log-sum-exp is
    `[heads, n]`, the two tensors of random state are not looked at without dropout.
    """

    def attend(
        run: Run, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None
    ) -> tuple[Tensor, Tensor]:
        q, k, v = _rows(query, run.query_tokens), _rows(key, run.key_tokens), _rows(value, run.key_tokens)
        out, lse, *_ = forward(q, k, v, *_call(run), False, scale=scale, **_window(run, window))
        return out, lse.t()

    def attend_back(
        run: Run,
        grad: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        out: Tensor,
        lse: Tensor,
        scale: float,
        window: int | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        g, q, o, logsum = (_rows(x, run.query_tokens) for x in (grad, query, out, lse))
        k, v = _rows(key, run.key_tokens), _rows(value, run.key_tokens)
        random = torch.zeros(2, dtype=torch.uint64, device=q.device), torch.empty(0, device=q.device)
        logsum = logsum.t().contiguous()
        return backward(g, q, k, v, o, logsum, *_call(run), *random, scale=scale, **_window(run, window))

    return Kernel(forward=attend, backward=attend_back)


def _rows(x: Tensor, tokens: Tensor | None) -> Tensor:
    return x if tokens is None else x.index_select(0, tokens)


def _call(run: Run) -> tuple[Tensor, Tensor, int, int, float, bool]:
    """Starts, longest sequences, no dropout, causal or not: in the order of both signatures."""
    return run.query_starts, run.key_starts, run.longest_query, run.longest_key, 0.0, run.own


def _window(run: Run, window: int | None) -> dict[str, int]:
    """A window counts the token itself; the kernel counts those before it."""
    if window is None or window > run.reach:
        return {}
    assert run.own, "a window that cuts a prefix is not the kernel's"
    return {"window_size_left": window - 1, "window_size_right": 0}


CUDA = varlen_kernel(torch.ops.aten._flash_attention_forward, torch.ops.aten._flash_attention_backward)


def serves(query: Tensor, key: Tensor) -> bool:
    """Whether CUDA's kernel computes heads of this type and width on this device.

    >>> serves(torch.zeros(3, 2, 64, dtype=torch.bfloat16), torch.zeros(3, 1, 64, dtype=torch.bfloat16))
    False
    """
    width = query.shape[-1]
    return (
        query.device.type == "cuda"
        and torch.version.hip is None
        and query.dtype in HALVES
        and width <= WIDEST
        and width % MULTIPLE == 0
        and query.shape[1] % key.shape[1] == 0
        and torch.cuda.get_device_capability(query.device) >= CAPABILITY
    )
