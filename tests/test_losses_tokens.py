"""Log-probabilities in chunks: the same numbers and gradients as the plain form, without its memory."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from whet.errors import ConfigError
from whet.losses import statistic
from whet.losses.tokens import CHUNK_BYTES, chunk_rows, head_logits, token_logprobs, token_statistics

FORMS: list[dict[str, Any]] = [
    {"scale": scale, "softcap": softcap, "temperature": temperature}
    for scale, softcap, temperature in product((1.0, 0.25), (None, 3.0), (1.0, 0.7))
]


def inputs(rows: int, *, dtype: torch.dtype = torch.float64, grad: bool = True) -> dict[str, Tensor]:
    torch.manual_seed(rows)
    made = {"hidden": torch.randn(rows, 6), "weight": torch.randn(11, 6), "bias": torch.randn(11)}
    return {name: value.to(dtype).requires_grad_(grad) for name, value in made.items()}


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, **form: Any) -> Tensor:
    return head_logits(hidden, weight, **form).log_softmax(-1)[torch.arange(len(targets)), targets]


def gradients(value: Tensor, given: dict[str, Tensor], upstream: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(value, list(given.values()), upstream))


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("chunk", [1, 3, 7, None])
def test_value_and_gradients_are_the_plain_ones(form: dict[str, Any], chunk: int | None) -> None:
    given, targets, upstream = inputs(7), torch.tensor([0, 10, 3, 3, 5, 1, 9]), torch.randn(7, dtype=torch.float64)
    whole = plain(given["hidden"], given["weight"], targets, bias=given["bias"], **form)
    parts = token_logprobs(given["hidden"], given["weight"], targets, bias=given["bias"], chunk=chunk, **form)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-12)
    expected, found = gradients(whole, given, upstream), gradients(parts, given, upstream)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


@pytest.mark.parametrize("chunk", [2, None])
def test_float32_agrees_to_rounding(chunk: int | None) -> None:
    given, targets = inputs(5, dtype=torch.float32), torch.tensor([0, 10, 3, 3, 5])
    upstream = torch.randn(5)
    whole = plain(given["hidden"], given["weight"], targets, bias=given["bias"])
    parts = token_logprobs(given["hidden"], given["weight"], targets, bias=given["bias"], chunk=chunk)
    torch.testing.assert_close(parts, whole, rtol=0, atol=2e-6)
    for one, other in zip(gradients(parts, given, upstream), gradients(whole, given, upstream), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("chunk", [2, None])
def test_half_precision_models_get_float32_logprobs_and_gradients_of_their_own_type(chunk: int | None) -> None:
    given, targets = inputs(5, dtype=torch.bfloat16), torch.tensor([0, 10, 3, 3, 5])
    parts = token_logprobs(given["hidden"], given["weight"], targets, bias=given["bias"], chunk=chunk)
    assert parts.dtype == torch.float32
    wide = {name: value.detach().double().requires_grad_() for name, value in given.items()}
    whole = plain(wide["hidden"], wide["weight"], targets, bias=wide["bias"])
    torch.testing.assert_close(parts.double(), whole, rtol=0, atol=0.05)
    found = gradients(parts, given, torch.ones(5))
    for one, other in zip(found, gradients(whole, wide, torch.ones(5).double()), strict=True):
        assert one.dtype == torch.bfloat16
        torch.testing.assert_close(one.double(), other, rtol=0.05, atol=0.05)


def test_gradients_pass_a_finite_difference_check() -> None:
    given, targets = inputs(4), torch.tensor([0, 10, 3, 3])
    for softcap in (None, 2.0):
        assert torch.autograd.gradcheck(
            lambda h, w, b, cap=softcap: token_logprobs(h, w, targets, bias=b, softcap=cap, temperature=0.7, chunk=3),
            tuple(given.values()),
        )


@pytest.mark.parametrize("trained", ["hidden", "weight"])
def test_only_what_is_trained_gets_a_gradient(trained: str) -> None:
    given = inputs(5, grad=False)
    given[trained].requires_grad_(True)
    targets = torch.tensor([1, 2, 3, 4, 5])
    value = token_logprobs(given["hidden"], given["weight"], targets, bias=given["bias"], chunk=2)
    (found,) = torch.autograd.grad(value.sum(), [given[trained]])
    whole = plain(given["hidden"], given["weight"], targets, bias=given["bias"])
    torch.testing.assert_close(found, torch.autograd.grad(whole.sum(), [given[trained]])[0])


def test_without_gradients_nothing_is_kept() -> None:
    given, targets = inputs(5), torch.tensor([1, 2, 3, 4, 5])
    with torch.no_grad():
        value = token_logprobs(given["hidden"], given["weight"], targets)
    assert value.grad_fn is None and not value.requires_grad


def test_a_head_without_bias_and_a_batch_without_tokens() -> None:
    given = inputs(3)
    value = token_logprobs(given["hidden"], given["weight"], torch.tensor([1, 2, 3]))
    torch.testing.assert_close(value, plain(given["hidden"], given["weight"], torch.tensor([1, 2, 3])))
    none = torch.zeros(0, dtype=torch.long)
    empty = token_logprobs(given["hidden"][:0], given["weight"], none)
    assert empty.shape == (0,)
    assert torch.autograd.grad(empty.sum(), [given["weight"]])[0].abs().sum() == 0
    assert token_statistics(given["hidden"][:0], given["weight"], names=["entropy"])["entropy"].shape == (0,)


def test_large_logits_stay_finite() -> None:
    hidden, weight = torch.full((2, 1), 1e4, requires_grad=True), torch.tensor([[1.0], [-1.0]])
    value = token_logprobs(hidden, weight, torch.tensor([0, 1]), chunk=1)
    value.sum().backward()
    assert value.tolist() == [0.0, -20000.0]
    assert hidden.grad is not None and bool(hidden.grad.isfinite().all())


class Largest(TorchDispatchMode):
    """The largest tensor that any operation made."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for item in made if isinstance(made, tuple | list) else (made,):
            if isinstance(item, Tensor):
                self.numel = max(self.numel, item.numel())
        return made


@pytest.mark.parametrize("names", [(), ("entropy",)])
def test_no_tensor_of_tokens_by_vocabulary_exists(names: tuple[str, ...]) -> None:
    rows, vocabulary, chunk = 64, 50, 4
    hidden = torch.randn(rows, 2, requires_grad=True)
    weight = torch.randn(vocabulary, 2, requires_grad=True)
    with Largest() as watch:
        value = token_logprobs(hidden, weight, torch.arange(rows) % vocabulary, chunk=chunk).sum()
        for name in names:
            value = value + token_statistics(hidden, weight, names=[name], chunk=chunk)[name].sum()
        value.backward()
    assert watch.numel == chunk * vocabulary
    assert weight.grad is not None
    with Largest() as watch:
        plain(hidden, weight, torch.arange(rows) % vocabulary).sum().backward()
    assert watch.numel == rows * vocabulary


def test_chunks_hold_the_budget() -> None:
    for vocabulary in (7, 600, 4096, 50257, 151_936):
        weight = torch.empty(vocabulary, 1)
        rows = chunk_rows(weight, weight)
        assert rows * vocabulary * 4 <= CHUNK_BYTES["cpu"] < (rows + 1) * vocabulary * 4
    assert chunk_rows(torch.empty(1, 1).expand(1 << 30, 1), torch.empty(1, 1)) == 1


@pytest.mark.parametrize("chunk", [2, None])
@pytest.mark.parametrize("form", FORMS[::3], ids=str)
def test_statistics_in_chunks_are_those_of_the_whole(form: dict[str, Any], chunk: int | None) -> None:
    given = inputs(5)
    second = {name: value.detach() for name, value in inputs(6).items()}
    other = (second["hidden"][:5], second["weight"], second["bias"])
    names = statistic.names()
    found = token_statistics(
        given["hidden"], given["weight"], names=names, other=other, bias=given["bias"], chunk=chunk, **form
    )
    mine = head_logits(given["hidden"], given["weight"], bias=given["bias"], **form)
    theirs = head_logits(other[0], other[1], bias=other[2], **form)
    assert tuple(found) == names
    upstream = torch.randn(5, dtype=torch.float64)
    for name, value in found.items():
        whole = statistic.get(name)(mine, theirs)
        torch.testing.assert_close(value, whole)
        for one, expected in zip(
            torch.autograd.grad(value, list(given.values()), upstream, retain_graph=True),
            torch.autograd.grad(whole, list(given.values()), upstream, retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(one, expected)


def test_the_other_model_gets_no_gradient() -> None:
    given, second = inputs(5), inputs(6)
    other = (second["hidden"][:5], second["weight"], second["bias"])
    value = token_statistics(given["hidden"], given["weight"], names=["forward_kl"], other=other)["forward_kl"]
    found = torch.autograd.grad(value.sum(), [second["weight"], given["weight"]], allow_unused=True)
    assert found[0] is None and found[1] is not None
    own = (given["hidden"], given["weight"], None)
    assert (
        token_statistics(given["hidden"], given["weight"], names=["forward_kl"], other=own)["forward_kl"].abs().max()
        < 1e-12
    )


def test_entropy_is_that_of_the_distribution_at_the_temperature() -> None:
    logits = torch.randn(3, 5, dtype=torch.float64)
    p = (logits / 0.7).softmax(-1)
    rows = token_statistics(logits, torch.eye(5).double(), names=["entropy"], temperature=0.7)["entropy"]
    torch.testing.assert_close(rows, torch.stack([-sum(x * x.log() for x in row) for row in p]))


def test_forward_kl_is_from_the_other_model_to_this_one() -> None:
    this, that = torch.tensor([[0.7, 0.2, 0.1]]).log(), torch.tensor([[0.1, 0.3, 0.6]]).log()
    expected = sum(q * (torch.tensor(q) / p).log() for q, p in zip((0.1, 0.3, 0.6), (0.7, 0.2, 0.1), strict=True))
    torch.testing.assert_close(statistic.get("forward_kl")(this, that), torch.as_tensor(expected).reshape(1))


def test_an_unknown_statistic_is_named() -> None:
    with pytest.raises(ConfigError, match="no statistic is called 'entropi' \\(did you mean entropy\\?\\)"):
        token_statistics(torch.zeros(1, 1), torch.zeros(2, 1), names=["entropi"])
