"""Linear layers on a CPU through oneDNN's float32 kernels, which torch uses for narrower types only.

    y = x Wᵀ + b,    ∂x = g W,    ∂W = gᵀ x,    ∂b = Σ g

The same sums in another order. Where the default library was not made for the processor these kernels take a fifth to a
third less time, and a row's result depends on no other row. `∂W` stays with the default library, which is as fast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import register_flop_formula

LEAST_ROWS = 2
"""One row alone is a matrix-vector product, which the plain form does as well."""
LEAST_SIZE = 1 << 16
"""A kernel is built for every new number of rows, half a millisecond that smaller weights do not earn back."""


class OneDnnLinear(nn.Linear):
    """`nn.Linear` whose float32 products on a CPU go through oneDNN; anything else is computed as ever.

    >>> layer = OneDnnLinear(3, 2)
    >>> x = torch.ones(4, 3)
    >>> torch.allclose(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
    True
    """

    def forward(self, input: Tensor) -> Tensor:
        if not _fits(input, self.weight):
            return super().forward(input)
        if torch.is_grad_enabled():
            return _Product.apply(input, self.weight, self.bias)  # type: ignore[no-any-return]
        return product(input, self.weight, self.bias)


def use_onednn(model: nn.Module, *, least: int = LEAST_SIZE) -> None:
    """Turn a model's plain `nn.Linear` of `least` weights or more into ones that go through oneDNN, where this torch
    has it; in place. Names, parameters and what is saved stay as they are.
    """
    if torch.backends.mkldnn.is_available():
        for module in model.modules():
            if type(module) is nn.Linear and module.weight.numel() >= least:
                module.__class__ = OneDnnLinear


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x Wᵀ + b without gradient: `x` `[…, k]`, `weight` `[n, k]`, `bias` `[n]` or None → `[…, n]`."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


@register_flop_formula(torch.ops.mkldnn._linear_pointwise)
def _flops(x: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
    """For torch's counter, which does not know this kernel: two operations for every product."""
    return 2 * math.prod(x) * weight[0]


def _fits(x: Tensor, weight: Tensor) -> bool:
    return (
        x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and x.numel() >= LEAST_ROWS * x.shape[-1]
    )


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]: the decorator hides the parameter's name
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad
        grad = grads[0].reshape(-1, weight.shape[0])
        grad_x = product(grad, weight.t(), None).view(*grads[0].shape[:-1], -1) if to_x else None
        grad_weight = grad.t() @ x.reshape(-1, weight.shape[1]) if to_weight else None
        return grad_x, grad_weight, grad.sum(dim=0) if to_bias else None
