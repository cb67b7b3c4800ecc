"""Pair losses of a whole step: AOT against every pairing, beta-DPO's β, its draw, and what it carries."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import permutations

import pytest
import torch
from torch import Tensor
from toys import responses

from whet.losses.preference.aot import aot, aot_unpaired
from whet.losses.preference.beta_dpo import LEAST, beta_dpo, drawn
from whet.losses.preference.dpo import dpo
from whet.losses.terms import Responses


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def drifted(size: int, spread: float = 3.0) -> Responses:
    policy, anchor = (spread * torch.randn(size, dtype=torch.float64) - 10 for _ in range(2))
    return responses(policy.requires_grad_(), anchor)


def slopes(value: Tensor, *sides: Responses) -> list[Tensor]:
    leaves = [side.policy for side in sides if side.policy is not None]
    return list(torch.autograd.grad(value.sum(), leaves, retain_graph=True))


def same(one: Tensor, other: Tensor, *sides: Responses) -> None:
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(slopes(one, *sides), slopes(other, *sides))


# --- AOT ------------------------------------------------------------------------------------------------------------


def paired(chosen: Responses, rejected: Responses) -> tuple[Tensor, Tensor]:
    assert chosen.policy is not None and rejected.policy is not None
    assert chosen.anchor is not None and rejected.anchor is not None
    return chosen.policy - rejected.policy, chosen.anchor - rejected.anchor


def unpaired(chosen: Responses, rejected: Responses) -> tuple[Tensor, Tensor]:
    return chosen.logratio("sum"), rejected.logratio("sum")


BOTH = pytest.mark.parametrize(("loss", "sides"), [(aot, paired), (aot_unpaired, unpaired)])
Sides = Callable[[Responses, Responses], tuple[Tensor, Tensor]]


@BOTH
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_ranks_are_the_best_of_all_pairings(loss: Callable[..., Tensor], sides: Sides, label_smoothing: float) -> None:
    """Part D29: the loss is convex, so of the 24 pairings of four the sorted one has the smallest sum."""
    for _ in range(5):
        chosen, rejected = drifted(4), drifted(4)
        left, right = sides(chosen, rejected)
        over, plain = responses(left, 0 * left), partial(dpo, beta=0.3, label_smoothing=label_smoothing)
        every = [plain(over, responses(right[list(o)], 0 * right)).sum() for o in permutations(range(4))]
        best = min(every, key=lambda total: total.item())
        same(loss(chosen, rejected, beta=0.3, label_smoothing=label_smoothing).sum(), best, chosen, rejected)


@BOTH
def test_one_pair_a_step_is_dpo(loss: Callable[..., Tensor], sides: Sides) -> None:
    one, other = drifted(1), drifted(1)
    same(loss(one, other, beta=0.3), dpo(one, other, beta=0.3), one, other)


def test_the_order_of_pairs_does_not_matter_and_unpaired_not_even_who_is_beside_whom() -> None:
    chosen, rejected, order = drifted(6), drifted(6), torch.tensor([3, 0, 5, 1, 4, 2])
    for loss in (aot, aot_unpaired):
        torch.testing.assert_close(loss(chosen.take(order), rejected.take(order)), loss(chosen, rejected)[order])
    torch.testing.assert_close(aot_unpaired(chosen, rejected.take(order)), aot_unpaired(chosen, rejected))
    assert (aot(chosen, rejected.take(order)).sum() - aot(chosen, rejected).sum()).abs() > 1e-4


# --- beta-DPO -------------------------------------------------------------------------------------------------------


def test_without_a_and_filter_it_is_dpo() -> None:
    sides = drifted(6), drifted(6)
    for beta in (0.3, 1e-4):
        values, _ = beta_dpo(*sides, beta=beta, a=0.0, filter=0.0)
        same(values, dpo(*sides, beta=beta), *sides)


def test_a_first_step_without_filter_has_the_given_beta() -> None:
    """Its mean is the running mean, thanks to the correction; begun at 0 it is not."""
    sides = drifted(6), drifted(6)
    values, carried = beta_dpo(*sides, beta=0.3, filter=0.0)
    same(values, dpo(*sides, beta=0.3), *sides)
    assert carried["beta"].item() == pytest.approx(0.3)
    assert beta_dpo(*sides, beta=0.3, filter=0.0, start="zero")[1]["beta"].item() != pytest.approx(0.3, rel=1e-3)


@pytest.mark.parametrize(("size", "share", "kept"), [(10, 0.2, 8), (5, 0.2, 4), (7, 0.2, 5), (10, 0.9, 1), (2, 0.9, 1)])
def test_so_many_pairs_are_kept_and_the_loss_is_their_mean(size: int, share: float, kept: int) -> None:
    """int(0.8 N) by default, and at least one; β has no gradient."""
    sides = drifted(size), drifted(size)
    values, carried = beta_dpo(*sides, filter=share)
    chosen = values != 0
    assert int(chosen.sum()) == int(carried["kept"]) == kept
    plain = dpo(*(side.take(chosen) for side in sides), beta=carried["beta"].item())
    same(values.mean(), plain.mean(), *sides)


@pytest.mark.parametrize("gap", ["reward", "logratio"])
@pytest.mark.parametrize("start", ["corrected", "zero"])
def test_beta_over_three_steps_by_the_formula(gap: str, start: str) -> None:
    """A loop of its own over plain numbers; the zero start and the raw gap are the authors' form."""
    mean, std, before = 0.0, 0.0, {}
    for step in range(1, 4):
        chosen, rejected = drifted(6), drifted(6)
        values, before = beta_dpo(
            replace(chosen, carried=before), rejected, beta=0.3, a=0.4, momentum=0.8, gap=gap, start=start
        )
        here = (1.0 if gap == "logratio" else 0.3) * (chosen.logratio("sum") - rejected.logratio("sum")).detach()
        mean, std = 0.8 * mean + 0.2 * here.mean().item(), 0.8 * std + 0.2 * here.std().item()
        share = 1 - 0.8**step if start == "corrected" else 1.0
        kept = here[values != 0].mean().item()
        expected = max(LEAST, 0.3 * (1 + 0.4 * (kept - mean / share)))
        assert before["beta"].item() == pytest.approx(expected)
        assert [before[name].item() for name in ("mean", "std", "steps")] == pytest.approx([mean, std, step])


def test_the_draw_follows_from_what_is_carried_alone() -> None:
    sides = drifted(20), drifted(20)
    first, carried = beta_dpo(*sides)
    assert torch.equal(first, beta_dpo(*sides)[0])
    torch.manual_seed(5)
    assert torch.equal(first, beta_dpo(*sides)[0]), "the process's own generator has no part in it"
    kept = [beta_dpo(replace(sides[0], carried={**carried, "steps": torch.tensor(n)}), sides[1])[0] for n in range(3)]
    assert len({tuple((values != 0).tolist()) for values in kept}) == 3


def test_pairs_are_drawn_by_their_density() -> None:
    """One of three at 0, 1 and 2 deviations: in proportion to exp(−½ x²); two of three as one after another."""
    here, rounds = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64), 3000
    density = [math.exp(-0.5 * x**2) for x in (0, 1, 2)]
    zero, one = torch.tensor(0.0), torch.tensor(1.0)
    for count in (1, 2):
        found = sum(drawn(here, zero, one, count=count, seed=n).double() for n in range(rounds)) / rounds
        expected = [p / sum(density) for p in density]
        if count == 2:
            expected = [
                p + sum(expected[j] * p / (1 - expected[j]) for j in range(3) if j != i)
                for i, p in enumerate(list(expected))
            ]
        assert found.tolist() == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("values", [[1.0] * 5, [0.0, 0.0, 0.0, 0.0, 1e30], [7.0]])
def test_gaps_without_spread_or_far_out_are_drawn_too(values: list[float]) -> None:
    here = torch.tensor(values, dtype=torch.float64)
    kept = drawn(here, here.mean(), here.std(correction=min(1, len(here) - 1)), count=max(1, len(here) - 1), seed=1)
    assert int(kept.sum()) == max(1, len(here) - 1)
    zero = torch.zeros_like(here)
    value, _ = beta_dpo(responses(here.clamp(max=1e5), zero), responses(zero, zero))
    assert bool(value.isfinite().all())


def test_beta_stays_above_0() -> None:
    far = responses([-1e4, -1e4], [-10.0, -10.0])
    last = {"mean": torch.tensor(50.0), "std": torch.tensor(1.0), "steps": torch.tensor(40)}
    _, carried = beta_dpo(replace(far, carried=last), drifted(2), filter=0.0)
    assert carried["beta"].item() == LEAST
