"""Pair losses that read numbers of each answer or weigh pairs: where they are another method, and their constants."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from toys import responses

from whet.build.terms import reads
from whet.losses import preference_loss
from whet.losses.preference.dno import dno
from whet.losses.preference.dpo import dpo
from whet.losses.preference.irpo import irpo
from whet.losses.preference.modpo import modpo
from whet.losses.preference.rebel import rebel
from whet.losses.preference.rpo import rpo
from whet.losses.preference.sppo import sppo
from whet.losses.preference.wpo import log_sum_squares, wpo
from whet.losses.preference.xpo import xpo
from whet.losses.terms import Responses
from whet.registry import Choice

SIZE = 5


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def drifted(*, at_reference: bool = False, **columns: float | Tensor) -> Responses:
    """Random responses with these columns; `policy` is a leaf."""
    policy = -5 * torch.rand(SIZE, dtype=torch.float64) - 2
    anchor = policy.clone() if at_reference else -5 * torch.rand(SIZE, dtype=torch.float64) - 2
    col = {name: torch.as_tensor(value).double().expand(SIZE) for name, value in columns.items()}
    stat = {"log_sum_squares": -3 * torch.rand(SIZE, dtype=torch.float64)}
    return responses(policy.requires_grad_(), anchor, length=[1, 2, 3, 4, 5], stat=stat, col=col)


def slopes(value: Tensor, *sides: Responses) -> list[Tensor]:
    leaves = [side.policy for side in sides if side.policy is not None]
    return list(torch.autograd.grad(value.sum(), leaves, retain_graph=True))


def same(one: Tensor, other: Tensor, *sides: Responses, rtol: float = 1e-9) -> None:
    """The same values and the same gradients."""
    torch.testing.assert_close(one, other, rtol=rtol, atol=1e-12)
    torch.testing.assert_close(slopes(one, *sides), slopes(other, *sides), rtol=rtol, atol=1e-12)


# --- one method is another's special case ---------------------------------------------------------------------------


def test_reductions_to_dpo() -> None:
    """Part E 2: no likelihood beside, no exploration, hard labels, no other objective."""
    sides = drifted(), drifted()
    same(irpo(*sides, beta=0.3, alpha=0.0), dpo(*sides, beta=0.3), *sides)
    same(xpo(*sides, beta=0.3, alpha=0.0), dpo(*sides, beta=0.3), *sides)
    same(dno(*sides, eta=0.3, soft=False), dpo(*sides, beta=0.3), *sides)
    alone = drifted(margin_reward=0.0), drifted(margin_reward=0.0)
    same(modpo(*alone, beta=0.3, w_k=1.0), dpo(*alone, beta=0.3), *alone)
    level = drifted(margin_reward=0.7), drifted(margin_reward=0.7)
    same(modpo(*level, beta=0.3, w_k=0.25), dpo(*level, beta=1.2), *level)


def test_wpo_of_a_uniform_policy_is_dpo() -> None:
    """log π − log Σ π² is 0 for every token, so every weight is 1."""
    uniform = torch.zeros(7, 4, dtype=torch.float64)
    assert log_sum_squares(uniform, None).tolist() == pytest.approx([-math.log(4)] * 7)
    sides = []
    for side in (drifted(), drifted()):
        summed = -math.log(4) * side.length
        sides.append(replace(side, policy=summed.clone().requires_grad_(), stat={"log_sum_squares": summed}))
    same(wpo(*sides, beta=0.3), dpo(*sides, beta=0.3), *sides)


def test_rpo_of_a_certain_difference_is_dpo() -> None:
    sides = drifted(rating=3.0), drifted(rating=2.0)
    same(rpo(*sides, beta=0.3, eta=1e3), dpo(*sides, beta=0.3), *sides)


def test_rpo_is_least_where_both_differences_agree() -> None:
    chosen, rejected = drifted(), drifted()
    difference = 0.3 * (chosen.logratio("sum") - rejected.logratio("sum"))
    rated = replace(chosen, col={"rating": difference.detach() / 2}), replace(rejected, col={"rating": 0 * difference})
    for form in ("backward", "forward", "squared"):
        value = rpo(*rated, beta=0.3, eta=2.0, form=form)
        torch.testing.assert_close(value, torch.zeros_like(value))
        torch.testing.assert_close(slopes(value, chosen)[0], torch.zeros_like(value))


def test_dno_of_equal_win_rates_is_least_at_equal_log_ratios() -> None:
    sides = drifted(at_reference=True, win_rate=0.4), drifted(at_reference=True, win_rate=0.4)
    value = dno(*sides)
    assert value.tolist() == pytest.approx([math.log(2)] * SIZE)
    assert slopes(value, *sides)[0].tolist() == [0.0] * SIZE


def test_xpo_adds_alpha_to_the_slope_of_the_references_answers() -> None:
    wrote = numbers(1, 0, 1, 0, 0)
    sides = drifted(from_reference=wrote), drifted(from_reference=1 - wrote)
    found, plain = slopes(xpo(*sides, alpha=0.25), *sides), slopes(dpo(*sides), *sides)
    torch.testing.assert_close(found[0] - plain[0], 0.25 * wrote)
    torch.testing.assert_close(found[1] - plain[1], 0.25 * (1 - wrote))


# --- at the reference, and at the optimum ---------------------------------------------------------------------------


def test_where_policy_is_reference() -> None:
    """Part E 1."""
    columns: dict[str, float] = {"margin_reward": 0.3, "win_rate": 0.7, "from_reference": 0.0}
    good = drifted(at_reference=True, rating=2.0, **columns)
    bad = drifted(at_reference=True, rating=1.0, **(columns | {"win_rate": 0.1}))
    even = math.log(2)
    for loss in (modpo, xpo):
        assert loss(good, bad).tolist() == pytest.approx([even] * SIZE)
    assert irpo(good, bad, alpha=0.5).tolist() == pytest.approx((even - 0.5 * good.logprob("mean")).tolist())
    target = 1 / (1 + math.exp(-1))
    entropy = -target * math.log(target) - (1 - target) * math.log(1 - target)
    assert rpo(good, bad).tolist() == pytest.approx([even - entropy] * SIZE)
    assert sppo(good, bad, eta=10.0).tolist() == pytest.approx([2.0**2 + 4.0**2] * SIZE)
    assert rebel(good, bad, eta=3.0).tolist() == pytest.approx([9.0] * SIZE)


def test_squares_are_0_at_their_fixed_points() -> None:
    """SPPO: log-ratio eta (P − ½); REBEL: π ∝ π_t exp(eta r)."""
    wins, prize = torch.rand(2, SIZE, dtype=torch.float64), torch.randn(2, SIZE, dtype=torch.float64)
    anchor = torch.randn(2, SIZE, dtype=torch.float64)
    fixed = [responses(a + 20.0 * (p - 0.5), a, col={"win_rate": p}) for a, p in zip(anchor, wins, strict=True)]
    torch.testing.assert_close(sppo(*fixed, eta=20.0), torch.zeros(SIZE, dtype=torch.float64))
    moved = [responses(a + 2.0 * r - 5.0, a, col={"rating": r}) for a, r in zip(anchor, prize, strict=True)]
    torch.testing.assert_close(rebel(*moved, eta=2.0), torch.zeros(SIZE, dtype=torch.float64))


@pytest.mark.parametrize(("name", "column"), [("rpo", "rating"), ("rebel", "rating"), ("dno", "win_rate")])
def test_a_constant_of_the_prompt_changes_nothing(name: str, column: str) -> None:
    """Part E 8."""
    sides = [drifted(**{column: torch.rand(SIZE)}) for _ in range(2)]
    shifted = [replace(side, col={column: side.column(column) + 3.0}) for side in sides]
    loss = preference_loss.get(name)
    torch.testing.assert_close(loss(*shifted), loss(*sides), rtol=1e-9, atol=1e-9)


# --- constants ------------------------------------------------------------------------------------------------------


def test_wpos_weight_is_held_below_its_ceiling_and_has_no_slope() -> None:
    chosen, rejected = drifted(), drifted()
    plain = dpo(chosen, rejected, beta=0.3)
    exact = torch.exp(
        sum((s.logprob("sum") - s.stat["log_sum_squares"]) / s.length for s in (chosen, rejected))
    ).detach()
    assert bool((exact < 1).any())
    likely = replace(chosen, stat={"log_sum_squares": chosen.stat["log_sum_squares"] - 20})
    for side, weight in ((chosen, exact), (likely, torch.exp(exact.log() + 20 / chosen.length))):
        for ceiling in (1.0, 1e12):
            expected = weight.clamp(max=ceiling) * plain
            same(wpo(side, rejected, beta=0.3, ceiling=ceiling), expected, side, rejected)


@pytest.mark.parametrize(
    ("name", "options", "columns"),
    [
        ("sppo", {}, ("win_rate",)),
        ("sppo", {"win_rates": False}, ()),
        ("dno", {}, ("win_rate",)),
        ("dno", {"soft": False}, ()),
        ("xpo", {}, ("from_reference",)),
        ("xpo", {"alpha": 0.0}, ()),
        ("modpo", {}, ("margin_reward",)),
    ],
)
def test_a_column_is_read_where_the_options_ask_for_it(
    name: str, options: dict[str, Any], columns: tuple[str, ...]
) -> None:
    assert reads([Choice(name, options)], (preference_loss,)).answer_columns == columns
    bare = [drifted(**dict.fromkeys(columns, 0.5)) for _ in range(2)]
    assert preference_loss.bind(name, **options)(*bare).shape == (SIZE,)
