"""Identities that tie the pair losses together, and wrong versions of them that must fail (methods' own numbers are in
their doctests). Members are found by discovery; what is not true of one is said here by its name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import pytest
import torch
from test_laws_responses import (
    COLUMNS,
    at_equal_margins_chosen_rises_and_rejected_falls,
    extreme_pairs_are_finite_in_every_type,
    values,
    with_tokens,
)
from torch import Tensor
from torch.nn.functional import logsigmoid
from toys import responses

from whet.losses import preference_loss, statistic
from whet.losses.preference.beta_dpo import drawn
from whet.losses.preference.cpo import cpo, cpo_simpo
from whet.losses.preference.discopop import discopop
from whet.losses.preference.dpo import dpo
from whet.losses.preference.dpop import dpop
from whet.losses.preference.exo_pair import exo_pair
from whet.losses.preference.f_dpo import f_dpo
from whet.losses.preference.gpo import gpo
from whet.losses.preference.ipo import ipo
from whet.losses.preference.orpo import orpo
from whet.losses.preference.r_dpo import r_dpo
from whet.losses.preference.robust import cdpo, rdpo
from whet.losses.preference.rso_hinge import rso_hinge
from whet.losses.preference.simpo import simpo
from whet.losses.preference.tdpo import tdpo1, tdpo2
from whet.losses.rating.kto import kto
from whet.losses.reward.bradley_terry import bradley_terry
from whet.losses.terms import Responses

NAMES = preference_loss.names()


def drifted(size: int = 5, *, at_reference: bool = False) -> Responses:
    """Random responses of equal length with their statistics; at the reference, where the two models are one, these
    and the data's columns are 0."""
    policy = (-5 * torch.rand(size, dtype=torch.float64) - 2).requires_grad_()
    anchor = policy.detach() if at_reference else -5 * torch.rand(size, dtype=torch.float64) - 2
    some = (0.0 if at_reference else 1.0) * torch.rand(size, dtype=torch.float64)
    return responses(
        policy, anchor, stat=dict.fromkeys(statistic.names(), some), col=dict.fromkeys(COLUMNS, torch.zeros(size))
    )


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def log_pi(side: Responses) -> Tensor:
    assert side.policy is not None
    return side.policy


def reference_of(side: Responses) -> Tensor:
    assert side.anchor is not None
    return side.anchor


def needs(name: str) -> set[str]:
    return set(preference_loss.entry(name).declarations["needs"])


# --- at the reference -------------------------------------------------------------------------------------------------

LOG_TWO = math.log(2)
EVEN = 0.5 * (LOG_TWO + math.log1p(-1e-3)) + 0.5 * (LOG_TWO + math.log(1e-3))
NOUGHT = torch.tensor(0.0)
AT_REFERENCE: Mapping[str, float | Callable[[Responses, Responses], Tensor]] = MappingProxyType(
    {
        "ipo": 25.0,
        "slic_hf": lambda good, bad: 1 - 0.1 * log_pi(good),
        "simpo": math.log1p(math.exp(1.0)),
        "cpo_simpo": math.log1p(math.exp(1.0)),
        "orpo": 0.1 * LOG_TWO,
        "rso_hinge": 1.0,
        "apo_zero": 1.0,
        "apo_down": 1.0,
        "discopop": 0.5 * LOG_TWO + 0.5,
        "exo_pair": -EVEN,
        "nca_pair": 2 * LOG_TWO,
        "bco_pair": 2 * LOG_TWO,
        "irpo": lambda good, bad: LOG_TWO - good.logprob("mean"),
        "rebel": 0.0,
        "rpo": 0.0,
        "sppo": 2 * 500.0**2,
        "wpo": lambda good, bad: LOG_TWO * (good.logprob("mean") + bad.logprob("mean")).exp(),
        "beta_dpo": lambda good, bad: 5 / 4 * LOG_TWO * drawn(torch.zeros(5), NOUGHT, NOUGHT, count=4, seed=1).double(),
    }
)
"""What a pair loss is where policy and reference are one model, if not log 2; of a loss without a reference, where both
answers are equally likely. Columns of the data are 0 there."""


@pytest.mark.parametrize("name", NAMES)
def test_the_value_at_the_reference(name: str) -> None:
    """Part E 1, I22: whatever the answers' probabilities, both of them together and each."""
    chosen = drifted(at_reference=True)
    rejected = drifted(at_reference=True) if "reference" in needs(name) else chosen
    expected = AT_REFERENCE.get(name, LOG_TWO)
    found = values(preference_loss.bind(name), chosen, rejected)
    torch.testing.assert_close(
        found, expected(chosen, rejected) if callable(expected) else torch.full_like(found, expected)
    )


def test_every_link_has_its_value_at_the_reference_and_kto_is_half() -> None:
    at = {"logistic": LOG_TWO, "exponential": 1, "hinge": 1, "squared": 1, "truncated_quadratic": 1, "savage": 0.25}
    sides = [drifted(at_reference=True) for _ in range(2)]
    (links,) = (option.type.__args__ for option in preference_loss.entry("gpo").options if option.name == "link")
    assert {link: gpo(*sides, link=link)[0].item() for link in links} == pytest.approx(at)
    columns = {"label": torch.tensor([1.0, 0, 1, 0, 1]), "mismatched": torch.tensor([0.0, 0, 0, 0, 1])}
    assert kto(replace(sides[0], col=columns)).tolist() == [0.5, 0.5, 0.5, 0.5, 0.0]


# --- one method is another's special case -----------------------------------------------------------------------------


def same(one: Tensor, other: Tensor, *sides: Responses) -> None:
    """Equal in value and in the slope of both answers' log-probabilities."""
    torch.testing.assert_close(one, other)
    at = [log_pi(side) for side in sides]
    slopes = [torch.autograd.grad(x.sum(), at, retain_graph=True) for x in (one, other)]
    torch.testing.assert_close(*slopes)


REDUCED = MappingProxyType(
    {
        "dpo": {},
        "cdpo": {"label_smoothing": 0.0},
        "rdpo": {"label_smoothing": 0.0},
        "gpo": {},
        "dpop": {"lam": 0.0},
        "f_dpo": {"divergence": "reverse_kl"},
        "r_dpo": {"alpha": 0.0},
        "ld_dpo": {"alpha": 1.0},
        "tdpo2": {"alpha": 0.0},
        "dpo_norm": {"reduce": "sum"},
    }
)


@pytest.mark.parametrize("name", REDUCED)
def test_reductions_to_dpo(name: str) -> None:
    """Part E 2: the options at which a method is DPO, whatever the lengths."""
    chosen = drifted()
    rejected = replace(drifted(), length=torch.arange(3, 8).double())
    one = values(preference_loss.bind(name, beta=0.3, **REDUCED[name]), chosen, rejected)
    same(one, dpo(chosen, rejected, beta=0.3), chosen, rejected)
    others = {option.name: option.default for option in preference_loss.entry(name).options} | {"beta": 0.3}
    if REDUCED[name]:
        assert (values(preference_loss.bind(name, **others), chosen, rejected) - one).abs().max() > 1e-3


def test_more_reductions_to_dpo() -> None:
    chosen, rejected = drifted(), drifted()
    plain = dpo(chosen, rejected, beta=0.3)
    still = {"forward_kl": torch.zeros(5, dtype=torch.float64)}
    same(tdpo1(replace(chosen, stat=still), replace(rejected, stat=still), beta=0.3), plain, chosen, rejected)
    torch.testing.assert_close(tdpo2(chosen, rejected, alpha=1.0), tdpo1(chosen, rejected))
    same(r_dpo(chosen, rejected, beta=0.3, alpha=0.7), plain, chosen, rejected)
    uniform = [replace(side, anchor=torch.full((5,), -7.0)) for side in (chosen, rejected)]
    same(cpo(chosen, rejected, beta=0.3), dpo(*uniform, beta=0.3), chosen, rejected)
    gained = replace(chosen, anchor=log_pi(chosen).detach() - 0.1)
    same(dpop(gained, rejected, beta=0.3), dpo(gained, rejected, beta=0.3), gained, rejected)
    almost = f_dpo(chosen, rejected, beta=0.3, divergence="alpha", alpha=1e-6)
    torch.testing.assert_close(almost, plain, rtol=0, atol=1e-5)


def test_one_method_is_another() -> None:
    chosen, rejected = drifted(), drifted()
    both = chosen, rejected
    same(f_dpo(*both, divergence="alpha", alpha=1.0), f_dpo(*both, divergence="forward_kl"), *both)
    same(rso_hinge(*both, beta=0.3), gpo(*both, beta=0.3, link="hinge"), *both)
    same(gpo(*both, beta=0.3, link="squared"), 0.3**2 * ipo(*both, beta=0.15), *both)
    same(cpo_simpo(*both, beta=3.0, gamma_ratio=0.2), simpo(*both, beta=3.0, gamma_ratio=0.2), *both)
    same(cpo(*both, beta=3.0, reduce="mean"), simpo(*both, beta=3.0, gamma_ratio=0.0), *both)


def test_dpo_is_bradley_terry_on_implicit_rewards() -> None:
    chosen, rejected = drifted(), drifted()
    rewards = [Responses(score=0.1 * side.logratio("sum"), length=side.length) for side in (chosen, rejected)]
    torch.testing.assert_close(bradley_terry(*rewards), dpo(chosen, rejected, beta=0.1))
    smooth = bradley_terry(*rewards, label_smoothing=0.2)
    torch.testing.assert_close(smooth, cdpo(chosen, rejected, beta=0.1, label_smoothing=0.2))


# --- where they are least, and their bounds ---------------------------------------------------------------------------


def pair(margin: float | list[float], *, chosen: float = 0.0) -> tuple[Responses, Responses]:
    """Pairs with these differences of log-ratios; the chosen answer's own is `chosen`."""
    margins = torch.as_tensor(margin, dtype=torch.float64).reshape(-1)
    good = responses((margins * 0 - 5 + chosen).requires_grad_(), margins * 0 - 5)
    return good, responses((chosen - margins - 5).requires_grad_(), margins * 0 - 5)


@pytest.mark.parametrize(
    ("loss", "least", "value"),
    [
        (partial(cdpo, beta=0.5, label_smoothing=0.2), 2 * math.log(4), None),
        (partial(ipo, beta=0.1), 5.0, 0.0),
        (partial(gpo, beta=0.5, link="squared"), 2.0, 0.0),
        (partial(exo_pair, beta=0.5, label_smoothing=0.1), 2 * math.log(9), 0.0),
    ],
)
def test_what_has_a_least_value_has_it_at_this_margin(loss: Any, least: float, value: float | None) -> None:
    good, bad = pair([least, least - 0.1, least + 0.1])
    found = loss(good, bad)
    assert bool((found[1:] > found[0]).all()) and torch.autograd.grad(found[0], log_pi(good))[0].abs().max() < 1e-12
    assert value is None or found[0].item() == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_rdpo_over_flipped_labels_is_dpo_on_the_true_ones_and_cdpo_is_not(share: float) -> None:
    one, other = drifted(), drifted()

    def expected(loss: Any) -> Tensor:
        seen = partial(loss, label_smoothing=share)
        return (1 - share) * seen(one, other) + share * seen(other, one)

    same(expected(rdpo), dpo(one, other), one, other)
    assert (expected(cdpo) - dpo(one, other)).abs().max() > 1e-3
    assert rdpo(*pair(1e4), label_smoothing=share).item() < -100, "no least value"


def test_bounds() -> None:
    """Part E 6: BCO bounds DPO from above; EXO and APO are bounded themselves; DPOP is never below DPO."""
    for spread in (0.1, 1.0, 30.0):
        sides = [replace(side, policy=spread * log_pi(side)) for side in (drifted(200), drifted(200))]
        for beta in (0.1, 2.0):
            assert bool((preference_loss.bind("bco_pair", beta=beta)(*sides) >= dpo(*sides, beta=beta)).all())
            assert bool((dpop(*sides, beta=beta) >= dpo(*sides, beta=beta)).all())
            for name, low, high in (("apo_zero", 0, 2), ("apo_down", 0, 2), ("exo_pair", 0, -math.log(1e-3))):
                found = preference_loss.bind(name, beta=beta)(*sides)
                assert bool((found >= low - 1e-12).all()) and bool((found <= high + 1e-12).all()), name
    assert exo_pair(*pair(-1e5)).item() == pytest.approx(-math.log(1e-3)) and dpo(*pair(-1e5)).item() == 1e4


def test_dpops_chosen_answer_is_raised_1_plus_lam_times_as_much_once_it_has_lost() -> None:
    for gained, factor in ((0.5, 1), (-0.5, 8)):
        good, bad = pair(1.0, chosen=gained)
        loss = dpop(good, bad, beta=0.3, lam=7.0)
        up, down = torch.autograd.grad(loss.sum(), [log_pi(good), log_pi(bad)])
        assert (-up / down).item() == pytest.approx(factor)


# --- invariances ------------------------------------------------------------------------------------------------------

MOVED_BY_PROMPT_CONSTANTS = {
    *("nca_pair", "bco_pair", "apo_zero", "apo_down", "dpop", "f_dpo"),
    *("slic_hf", "orpo", "sppo", "aot_unpaired"),
}
"""Methods that look at an answer's own reward beside the difference, bend it before they take the difference, or take
it between answers to different prompts."""


def shifted(side: Responses, shift: Tensor, name: str) -> Responses:
    """Every answer of a prompt more likely by the same factor, under the reference where there is one."""
    if "reference" in needs(name):
        return replace(side, anchor=reference_of(side) + shift)
    return replace(side, policy=log_pi(side) + shift)


@pytest.mark.parametrize("name", NAMES)
def test_prompt_constants_cancel(name: str) -> None:
    """Part E 8, I27: what shifts both answers alike changes no loss of their difference."""
    chosen, rejected, shift = drifted(), drifted(), torch.randn(5, dtype=torch.float64)
    loss = preference_loss.bind(name)
    change = values(loss, *(shifted(side, shift, name) for side in (chosen, rejected))) - values(loss, chosen, rejected)
    assert bool((change.abs() < 1e-9).all()) == (name not in MOVED_BY_PROMPT_CONSTANTS)
    there, back = dpo(chosen, rejected, beta=1.0), dpo(rejected, chosen, beta=1.0)
    torch.testing.assert_close(back - there, chosen.logratio("sum") - rejected.logratio("sum"))


AVERAGED = {"simpo", "cpo_simpo", "orpo", "dpo_norm"}
"""Methods of mean log-probabilities."""


def repeated(side: Responses, times: int) -> Responses:
    """Every token of the answers so many times, with the log-probabilities it has."""
    some = {name: times * column for name, column in side.stat.items()}
    anchor = times * reference_of(side)
    return replace(side, policy=times * log_pi(side), anchor=anchor, length=times * side.length, stat=some)


def repeating_tokens_changes_nothing(loss: Callable[..., Tensor]) -> None:
    chosen, rejected = drifted(), drifted()
    found = values(loss, repeated(chosen, 3), repeated(rejected, 3))
    torch.testing.assert_close(found, values(loss, chosen, rejected))


@pytest.mark.parametrize("name", NAMES)
def test_repeating_tokens_changes_averages_not(name: str) -> None:
    """Part E 9."""
    if name in AVERAGED:
        repeating_tokens_changes_nothing(preference_loss.bind(name))
    else:
        with pytest.raises(AssertionError):
            repeating_tokens_changes_nothing(preference_loss.bind(name))


SCALED = ("dpo", "cdpo", "rdpo", "gpo", "rso_hinge", "dpop", "apo_zero", "apo_down", "discopop", "exo_pair", "nca_pair")


@pytest.mark.parametrize("name", [*SCALED, "bco_pair", "tdpo1", "tdpo2", "ld_dpo", "cpo"])
def test_repeating_tokens_changes_sums_in_proportion(name: str) -> None:
    """Part E 9: as if β were so many times larger, since log-probabilities are summed."""
    chosen, rejected = drifted(), drifted()
    found = values(preference_loss.bind(name, beta=0.1), repeated(chosen, 3), repeated(rejected, 3))
    torch.testing.assert_close(found, values(preference_loss.bind(name, beta=0.3), chosen, rejected))


# --- wrong versions must fail -----------------------------------------------------------------------------------------


def a_longer_chosen_answer_teaches_less(loss: Callable[..., Tensor]) -> None:
    """R-DPO at the reference: log(1 + e^−alpha) where the chosen answer is a token longer."""
    good, bad = pair(0.0)
    longer = replace(good, length=good.length + 1)
    assert loss(longer, bad, alpha=0.5).item() == pytest.approx(math.log1p(math.exp(-0.5)))
    slopes = [torch.autograd.grad(loss(side, bad, alpha=0.5).sum(), log_pi(good))[0] for side in (good, longer)]
    assert slopes[1].abs() < slopes[0].abs()


def length_sought(chosen: Responses, rejected: Responses, *, alpha: float) -> Tensor:
    """R-DPO with its sign the other way round."""
    return r_dpo(replace(chosen, length=rejected.length), replace(rejected, length=chosen.length), alpha=alpha)


def torn(chosen: Responses, rejected: Responses) -> Tensor:
    """DiscoPOP with its product taken apart."""
    margin = 0.05 * (chosen.logratio("sum") - rejected.logratio("sum"))
    share = (margin / 0.05).sigmoid()
    return -(1 - share) * logsigmoid(margin) + share * (-margin).exp()


def unbounded(chosen: Responses, rejected: Responses) -> Tensor:
    return (-(chosen.logratio("sum") - rejected.logratio("sum"))).exp()


def test_controls() -> None:
    """Part E 11, I40: what a correct method passes, its wrong version does not."""
    entry = preference_loss.entry("dpo")
    finite, direction = extreme_pairs_are_finite_in_every_type, at_equal_margins_chosen_rises_and_rejected_falls
    right_and_wrong: list[tuple[Callable[..., None], Any, Any]] = [
        (a_longer_chosen_answer_teaches_less, r_dpo, length_sought),
        (repeating_tokens_changes_nothing, partial(ipo, reduce="mean"), ipo),
        (lambda loss: direction(loss, entry), dpo, lambda chosen, rejected: dpo(rejected, chosen)),
        (lambda loss: finite(loss, entry), discopop, torn),
        (lambda loss: finite(loss, entry), partial(gpo, link="exponential", beta=1.0), unbounded),
    ]
    for law, right, wrong in right_and_wrong:
        law(right)
        with pytest.raises(AssertionError):
            law(wrong)
    torch.testing.assert_close(torn(*pair([1.0, -1.0])), discopop(*pair([1.0, -1.0])))
    torch.testing.assert_close(unbounded(*pair([1.0, -9.0])), gpo(*pair([1.0, -9.0]), link="exponential", beta=1.0))


def test_a_gradient_keeps_its_direction_beyond_what_an_exponential_can_hold() -> None:
    for loss in (partial(gpo, link="exponential"), partial(f_dpo, divergence="forward_kl", beta=1e-9)):
        good, bad = pair(-1e4, chosen=-1e4)
        up, down = torch.autograd.grad(loss(good, bad).sum(), [log_pi(good), log_pi(bad)])
        assert -math.inf < up.item() < 0 <= down.item() < math.inf
    assert orpo(*pair(-1e4)).isfinite().all() and with_tokens(pair(0.0)[0]).each is not None
