from __future__ import annotations

import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest

from whet.eval.stats import bootstrap, chance_of_one, distinct, paired, pass_at_k, share, win_rate, wins


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for trial in range(300):
        difficulty = rng.beta(2, 2, size=60)
        answers = rng.random((60, 4)) < difficulty[:, None]
        found = bootstrap(answers, seed=trial, draws=400)
        covered += found.low <= 0.5 <= found.high
    assert 0.91 <= covered / 300 <= 0.985


def test_prompts_are_resampled_and_not_answers() -> None:
    """Eight equal answers to a prompt hold no more news than one: the interval must not shrink."""
    values = np.arange(40) % 2
    once, eightfold = bootstrap(values, seed=0), bootstrap(np.repeat(values[:, None], 8, axis=1), seed=0)
    assert (once.low, once.high, once.n) == (eightfold.low, eightfold.high, eightfold.n)
    assert once.high - once.low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(40), rel=0.15)


def test_a_statistic_of_ones_own_equals_the_fast_mean() -> None:
    values = np.random.default_rng(0).normal(size=(30, 3))
    assert bootstrap(values, seed=3).low == pytest.approx(bootstrap(values, lambda x: float(x.mean()), seed=3).low)


def test_nan_is_left_out_and_empty_prompts_are_not_counted() -> None:
    found = bootstrap([[1.0, math.nan], [math.nan, math.nan], [0.0, 0.0]], seed=0)
    assert found.n == 2
    assert found.value == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="at least one judged prompt"):
        bootstrap([[math.nan]], seed=0)
    with pytest.raises(ValueError, match="at least one judged prompt"):
        bootstrap([], seed=0)


@pytest.mark.parametrize(("n", "correct", "k"), [(5, 2, 3), (6, 0, 2), (4, 4, 1), (6, 1, 6)])
def test_chance_of_one_equals_enumeration(n: int, correct: int, k: int) -> None:
    draws = list(itertools.combinations([True] * correct + [False] * (n - correct), k))
    assert chance_of_one(n, correct, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_pass_at_k_is_unbiased() -> None:
    """With chance p per answer, pass@3 is 1 - (1-p)^3, however many answers it is estimated from."""
    rng = np.random.default_rng(1)
    answers = rng.random((20_000, 8)) < 0.3
    assert pass_at_k(answers, 3, seed=0, draws=10).value == pytest.approx(1 - 0.7**3, abs=0.01)


def test_pass_at_k_leaves_out_what_could_not_be_judged() -> None:
    found = pass_at_k([[1, 0, math.nan], [1, math.nan, math.nan], [0, 0, 0]], 2, seed=0)
    assert (found.value, found.n) == (0.5, 2)
    with pytest.raises(ValueError, match=r"pass@4 needs 4 judged answers.* is 3"):
        pass_at_k([[1, 0, 1]], 4, seed=0)
    with pytest.raises(ValueError, match="in between"):
        pass_at_k([[0.5, 1.0]], 1, seed=0)


def test_certainty_is_not_claimed_from_agreement() -> None:
    z2 = NormalDist().inv_cdf(0.975) ** 2
    assert share([1.0] * 50, seed=0).low == pytest.approx(50 / (50 + z2))
    assert share([0.0] * 50, seed=0).high == pytest.approx(z2 / (50 + z2))
    ties = win_rate([1.0] * 50, [1.0] * 50, seed=0)
    assert ties.low < ties.value == 0.5 < ties.high


def test_win_rates_of_two_sides_add_to_one_and_ties_are_halves() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 4, size=(50, 3)), rng.integers(0, 4, size=(50, 2))
    assert win_rate(a, b, seed=0).value + win_rate(b, a, seed=0).value == pytest.approx(1.0)
    assert win_rate(a, a[:, :1], ties=0.0, seed=0).value < win_rate(a, a[:, :1], ties=1.0, seed=0).value
    assert wins([3.0], [1.0]).tolist() == [1.0]
    assert math.isnan(wins([math.nan], [1.0])[0])
    with pytest.raises(ValueError, match="different numbers of prompts"):
        wins([1.0], [1.0, 2.0])


def test_distinct_counts_over_all_texts() -> None:
    assert distinct(["a a a a"], 1) == 0.25
    assert distinct(["a b", "a b"], 2) == 0.5
    assert math.isnan(distinct(["a", ""], 2))


@pytest.mark.parametrize(
    "differences", [[1, 2], [1, 2, 3], [1, 2, 3, 4], [0.5, -0.2, 0.9, 0.4, 0.1, 0.6], [1.0, -2.0, 0.5, 0.1, -0.3]]
)
def test_paired_t_equals_the_integral_of_its_density(differences: list[float]) -> None:
    found = paired(differences, [0.0] * len(differences))
    freedom = len(differences) - 1
    grid = np.linspace(-abs(found.t), abs(found.t), 20_001)
    scale = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
    within = np.trapezoid(scale * (1 + grid**2 / freedom) ** (-(freedom + 1) / 2), grid)
    assert found.p == pytest.approx(1 - within, abs=1e-6)
    assert (found.difference.low > 0 or found.difference.high < 0) == (found.p < 0.05)
    assert found.t == pytest.approx(found.difference.value / found.standard_error)


def test_paired_without_spread() -> None:
    assert paired([1.0, 1.0], [1.0, 1.0]).p == 1.0
    certain = paired([2.0, 2.0], [1.0, 1.0])
    assert (certain.t, certain.p, certain.json()["t"]) == (math.inf, pytest.approx(0.0), None)
    with pytest.raises(ValueError, match="at least two"):
        paired([1.0], [1.0])
