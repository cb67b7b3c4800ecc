"""CUDA's attention of a forest, on a kernel of the same signature in plain loops, equals the simple path."""

from __future__ import annotations

import inspect

import pytest
import torch
import varlen_stand_in
from hypothesis import given, settings
from test_models_attention import forest, forests

from whet.models import attention, flash, varlen
from whet.models.attention import ForestPlan
from whet.models.varlen import varlen_kernel

KERNEL = varlen_kernel(varlen_stand_in.forward, varlen_stand_in.backward)
SHARED = [-1, 0, 0, -1, 3, 3, 4, -1], [20, 5, 9, 13, 8, 0, 8, 1]
"""Two prompts with responses (one empty, one that goes on from another) and a lone token."""


def results(batch, *, kernel=None, path="fast", window=None, sinks=False, dtype=torch.float64, heads=(4, 2), width=8):
    """Output and gradients of a random loss, for one plan."""
    torch.manual_seed(0)
    count = batch.tokens.numel()
    leaves = [torch.randn(1, h, count, width, dtype=dtype, requires_grad=True) for h in (heads[0], heads[1], heads[1])]
    sink = torch.randn(heads[0], dtype=dtype, requires_grad=True) if sinks else None
    weight = torch.randn(1, count, heads[0], width, dtype=dtype)
    plan = ForestPlan.of(batch, attention=path, kernel=kernel)
    out = plan.attend(0, *leaves, scaling=0.3, window=window, softcap=None, sinks=sink)
    (out * weight).sum().backward()
    return [out.detach(), *(x.grad for x in (*leaves, *([sink] if sinks else [])))]


def agree(batch, tolerance=1e-10, **options):
    ours, simple = results(batch, kernel=KERNEL, **options), results(batch, path="simple", **options)
    for a, b in zip(ours, simple, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


@pytest.fixture
def served(monkeypatch):
    """The kernel must have served: no other path is open to plans that may be fast."""

    def only(*arguments, kernel, **options):
        assert kernel is KERNEL
        return flash.flash_forest(*arguments, kernel=kernel, **options)

    monkeypatch.setattr(attention, "flash_forest", only)


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(forests())
def test_any_forest(batch):
    agree(batch)


@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_values_and_gradients(served, dtype, tolerance, sinks):
    agree(forest(*SHARED), tolerance, dtype=dtype, sinks=sinks)
    agree(forest([-1] * 3, [7, 1, 30]), tolerance, dtype=dtype, sinks=sinks, heads=(3, 3))


def test_bfloat16_stays_near(served):
    agree(forest(*SHARED), 0.1, dtype=torch.bfloat16)


@pytest.mark.parametrize("window", [1, 3, 9, 30])
def test_windows_that_cut_no_prefix_are_the_kernels(served, window):
    agree(forest([-1, -1, -1], [20, 1, 9]), window=window)
    agree(forest(*SHARED), window=40)


@pytest.mark.parametrize("window", [1, 6, 28])
def test_a_window_that_cuts_a_prefix_takes_the_simple_path(window):
    agree(forest(*SHARED), window=window)


def test_the_window_that_just_reaches_the_first_token(served):
    batch = forest([-1, 0], [6, 4])
    agree(batch, window=10)
    with pytest.raises(AssertionError):
        agree(batch, window=9)


def test_calls_do_not_grow_with_segments():
    called = []

    def counting(*arguments, **options):
        called.append(len(arguments[0]))
        return varlen_stand_in.forward(*arguments, **options)

    kernel = varlen_kernel(counting, varlen_stand_in.backward)
    results(forest([-1, *[0] * 12], [9, *range(1, 13)]), kernel=kernel)
    assert called == [9 + 78, 78]
    called.clear()
    results(forest([-1, 0, 1, 1], [4, 3, 2, 2]), kernel=kernel)
    assert called == [11, 7, 4]


def test_the_stand_in_has_the_kernels_signature():
    for stand_in, real in (
        (varlen_stand_in.forward, torch.ops.aten._flash_attention_forward.default),
        (varlen_stand_in.backward, torch.ops.aten._flash_attention_backward.default),
    ):
        names = [argument.name for argument in real._schema.arguments]
        assert list(inspect.signature(stand_in).parameters) == names[: len(inspect.signature(stand_in).parameters)]


def test_what_the_kernel_serves(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))

    class OnCuda:
        def __init__(self, shape, dtype=torch.bfloat16):
            self.shape, self.dtype, self.device = shape, dtype, torch.device("cuda:0")

    key = OnCuda((5, 2, 64))
    assert varlen.serves(OnCuda((5, 14, 64)), key) and varlen.serves(OnCuda((5, 2, 256), torch.float16), key)
    assert not varlen.serves(OnCuda((5, 14, 64), torch.float32), key)
    assert not varlen.serves(OnCuda((5, 14, 36)), key) and not varlen.serves(OnCuda((5, 14, 264)), key)
    assert not varlen.serves(OnCuda((5, 3, 64)), key)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert not varlen.serves(OnCuda((5, 14, 64)), key)
