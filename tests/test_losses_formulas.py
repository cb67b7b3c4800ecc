"""Formulas at points worked out by hand, and what happens at their edges."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from toys import forest, responses

from whet.errors import DataError
from whet.losses.kl import STEEPEST, k1, k2, k3
from whet.losses.policy.ppo_clip import ppo_clip
from whet.losses.policy.reinforce import reinforce
from whet.losses.preference.dpo import dpo
from whet.losses.preference.orpo import CERTAIN, orpo
from whet.losses.preference.tdpo import forward_kl, tdpo1, tdpo2
from whet.losses.rating.kto import kto
from whet.losses.ratio import sequence, token
from whet.losses.reward.bradley_terry import bradley_terry
from whet.losses.step.process import process
from whet.losses.terms import Responses
from whet.losses.value.squared import squared
from whet.losses.value.value_clip import value_clip
from whet.losses.weights import fixed_length, sequence_mean, token_mean


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def slope(value: Tensor, at: Tensor) -> list[float]:
    return torch.autograd.grad(value.sum(), at, retain_graph=True)[0].tolist()


# --- policy objectives ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "gradient"),
    [  # low 0.2, high 0.3; gradient by the log-ratio: −A·ρ where not clipped, else 0
        (0.5, 1.0, -0.5, -0.5),
        (0.9, 1.0, -0.9, -0.9),
        (1.25, 1.0, -1.25, -1.25),
        (2.0, 1.0, -1.3, 0.0),
        (0.5, -1.0, 0.8, 0.0),
        (0.9, -1.0, 0.9, 0.9),
        (1.1, -1.0, 1.1, 1.1),
        (2.0, -1.0, 2.0, 2.0),
    ],
)
def test_clip_table(ratio: float, advantage: float, value: float, gradient: float) -> None:
    log_ratio = numbers(math.log(ratio)).requires_grad_()
    loss = ppo_clip(log_ratio, numbers(advantage), low=0.2, high=0.3)
    assert loss.item() == pytest.approx(value)
    assert slope(loss, log_ratio) == pytest.approx([gradient])


def test_the_ratio_is_bounded_in_log_space() -> None:
    log_ratio = torch.tensor([500.0, -500.0, 500.0, 3.0], requires_grad=True)
    loss = ppo_clip(log_ratio, torch.tensor([-1.0, -1.0, 1.0, -1.0]), max_log_ratio=2.0)
    assert loss.tolist() == pytest.approx([math.exp(2), 0.8, -1.2, math.exp(2)])
    assert slope(loss, log_ratio) == [0.0] * 4


def test_reinforce_has_the_slope_of_the_advantage_at_any_ratio() -> None:
    log_ratio = numbers(0.0, 1.0, -3.0).requires_grad_()
    assert slope(reinforce(log_ratio, numbers(2.0, -1.0, 0.5)), log_ratio) == [-2.0, 1.0, -0.5]


# --- ratio pooling and weights -------------------------------------------------------------------------------------


def test_sequence_ratio_is_the_mean_of_each_response() -> None:
    batch = forest([[3, 1], [2]])
    log_ratio = numbers(0.1, 0.2, 0.6, -1.0, 0.5, 0.7)
    pooled = sequence(log_ratio, batch.row, batch.length)
    torch.testing.assert_close(pooled, numbers(0.3, 0.3, 0.3, -1.0, 0.6, 0.6))
    assert token(log_ratio, batch.row, batch.length) is log_ratio


def test_gspo_by_tokens_is_one_term_per_response() -> None:
    """Pooled ratio + sequence mean: value and gradient of (1/R) Σ_i max(−A s_i, −A clip(s_i))."""
    batch = forest([[3, 1], [2, 4]])
    torch.manual_seed(0)
    log_ratio = (0.3 * torch.randn(10, dtype=torch.float64)).requires_grad_()
    advantage = numbers(1.0, -1.0, 0.5, -2.0)
    pooled = sequence(log_ratio, batch.row, batch.length)
    ours = (sequence_mean(batch) * ppo_clip(pooled, advantage[batch.row])).sum()
    total = torch.zeros(4, dtype=torch.float64).index_add(0, batch.row, log_ratio)
    s = (total / batch.length).exp()
    paper = torch.maximum(-advantage * s, -advantage * s.clamp(0.8, 1.2)).mean()
    torch.testing.assert_close(ours, paper, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(
        torch.autograd.grad(ours, log_ratio)[0], torch.autograd.grad(paper, log_ratio)[0], rtol=1e-6, atol=1e-7
    )


def test_weights_are_the_named_means() -> None:
    batch = forest([[1, 3], [2]])
    value = torch.arange(1.0, 7.0)
    means = [1.0, 3.0, 5.5]
    assert (token_mean(batch) * value).sum().item() == pytest.approx(3.5)
    assert (sequence_mean(batch) * value).sum().item() == pytest.approx(sum(means) / 3)
    assert (fixed_length(batch, length=10) * value).sum().item() == pytest.approx(21 / 30)


def test_a_response_without_counted_tokens_counts_nowhere() -> None:
    """I11: an empty row changes no denominator, and a batch of nothing has no weights."""
    with_empty, without = forest([[1, 3, 0]]), forest([[1, 3]])
    for weigh in (token_mean, sequence_mean, lambda b: fixed_length(b, length=4)):
        assert weigh(with_empty).tolist() == weigh(without).tolist()
        assert weigh(forest([[0]])).tolist() == []


def test_doubling_a_response_doubles_its_share_only_without_length_normalisation() -> None:
    short, long = forest([[2, 2]]), forest([[2, 4]])
    share = {w.__name__: [w(b)[b.row == 1].sum().item() for b in (short, long)] for w in (token_mean, sequence_mean)}
    assert share == {"token_mean": [0.5, pytest.approx(4 / 6)], "sequence_mean": [0.5, 0.5]}
    assert fixed_length(long, length=8)[long.row == 1].sum() == 2 * fixed_length(short, length=8)[short.row == 1].sum()


# --- KL estimators -------------------------------------------------------------------------------------------------


def test_kl_estimators_by_hand() -> None:
    ratio = numbers(math.log(2))
    assert k1(ratio).item() == pytest.approx(math.log(2))
    assert k2(ratio).item() == pytest.approx(math.log(2) ** 2 / 2)
    assert k3(ratio).item() == pytest.approx(0.5 - 1 + math.log(2))


def test_k3_goes_on_as_its_tangent() -> None:
    """Past the bound the value is finite and the gradient keeps its sign: a plain clamp would turn it around."""
    ratio = numbers(-STEEPEST - 1e-9, -STEEPEST + 1e-9, -100.0).requires_grad_()
    value = k3(ratio)
    beyond, within, far = slope(value, ratio)
    assert beyond == pytest.approx(within, rel=1e-6) == pytest.approx(1 - math.exp(STEEPEST), rel=1e-6)
    assert far == pytest.approx(beyond, rel=1e-6)
    assert value[2].item() == pytest.approx(math.exp(STEEPEST) * (1 + 100 - STEEPEST), rel=1e-6)
    assert bool(k3(torch.tensor([-1e4, 1e4])).isfinite().all())


# --- preference losses ---------------------------------------------------------------------------------------------


def test_dpo_by_hand() -> None:
    """HP: log-ratios +1 and −1, so D = 2; at β = 0.1 the gradient by log π(y_w) is −β σ(−βD)."""
    chosen = responses([-9.0], [-10.0])
    rejected = responses([-11.0], [-10.0])
    assert chosen.policy is not None and rejected.policy is not None
    chosen.policy.requires_grad_(), rejected.policy.requires_grad_()
    loss = dpo(chosen, rejected)
    assert loss.item() == pytest.approx(0.598139, abs=1e-6)
    rate = 0.1 / (1 + math.exp(0.2))
    assert slope(loss, chosen.policy) == pytest.approx([-rate])
    assert slope(loss, rejected.policy) == pytest.approx([rate])
    assert dpo(chosen, rejected, label_smoothing=0.1).item() == pytest.approx(0.618139, abs=1e-6)
    assert dpo(rejected, chosen).item() == pytest.approx(0.598139 + 0.2, abs=1e-6)


def test_dpo_sums_unless_told_to_average() -> None:
    chosen, rejected = responses([-6.0], [-10.0], [2]), responses([-11.0], [-10.0], [4])
    assert dpo(chosen, rejected).item() == pytest.approx(math.log1p(math.exp(-0.1 * 5)))
    assert dpo(chosen, rejected, reduce="mean").item() == pytest.approx(math.log1p(math.exp(-0.1 * 2.25)))


def test_smoothed_dpo_is_least_at_the_log_odds_of_its_labels() -> None:
    margin = 10 * math.log(0.9 / 0.1)
    chosen, rejected = responses([margin], [0.0]), responses([0.0], [0.0])
    assert chosen.policy is not None
    chosen.policy.requires_grad_()
    assert slope(dpo(chosen, rejected, label_smoothing=0.1), chosen.policy) == pytest.approx([0.0], abs=1e-12)


def test_orpo_by_hand() -> None:
    """p = 1/2 against 1/4: log odds ratio log 3, σ = 3/4; averaged, so length does not matter."""
    chosen, rejected = responses([3 * math.log(0.5)], None, [3]), responses([5 * math.log(0.25)], None, [5])
    assert orpo(chosen, rejected, lam=1.0).item() == pytest.approx(0.287682, abs=1e-6)
    assert orpo(chosen, rejected).item() == pytest.approx(0.0287682, abs=1e-7)
    assert orpo(chosen, rejected, lam=0.0).item() == 0.0
    assert orpo(chosen, chosen, lam=1.0).item() == pytest.approx(math.log(2))


def test_orpo_is_finite_where_a_response_is_certain() -> None:
    chosen, rejected = responses([0.0, -1e-9, -4.0]), responses([-4.0, -4.0, 0.0])
    assert chosen.policy is not None
    chosen.policy.requires_grad_()
    loss = orpo(chosen, rejected)
    assert bool(loss.isfinite().all())
    assert slope(loss, chosen.policy)[:2] == [0.0, 0.0]
    held = orpo(responses([0.0], None, [1]), responses([-1.0], None, [1]), lam=1.0)
    assert held.item() == pytest.approx(CERTAIN / (math.e - 1), rel=1e-4)


def test_tdpo_by_hand() -> None:
    """D = 2, K_w = 1, K_l = 3: TDPO1's margin 0, TDPO2's 2 − 0.5·2 = 1."""
    chosen = responses([-9.0], [-10.0], stat={"forward_kl": numbers(1.0).requires_grad_()})
    rejected = responses([-11.0], [-10.0], stat={"forward_kl": numbers(3.0).requires_grad_()})
    one, two = tdpo1(chosen, rejected), tdpo2(chosen, rejected)
    assert one.item() == pytest.approx(math.log(2))
    assert two.item() == pytest.approx(math.log1p(math.exp(-0.1)))
    assert slope(one, chosen.stat["forward_kl"]) == pytest.approx([-0.05])
    assert slope(one, rejected.stat["forward_kl"]) == pytest.approx([0.05])
    kept = torch.autograd.grad(two.sum(), chosen.stat["forward_kl"], retain_graph=True, allow_unused=True)[0]
    assert kept is None
    assert slope(two, rejected.stat["forward_kl"]) == pytest.approx([0.05 / (1 + math.exp(0.1))])


def test_forward_kl_needs_a_second_model() -> None:
    with pytest.raises(AssertionError, match="second model"):
        forward_kl(torch.zeros(1, 2), None)


# --- ratings -------------------------------------------------------------------------------------------------------


def rated(ratios: list[float], labels: list[float], mismatched: list[float]) -> Responses:
    made = responses(ratios, [0.0] * len(ratios), col={"label": numbers(*labels), "mismatched": numbers(*mismatched)})
    assert made.policy is not None
    made.policy.requires_grad_()
    return made


def test_kto_by_hand() -> None:
    """z0 = mean(3, 1) = 2: a desirable answer at z0 is worth half its weight, the others σ(∓β·distance)."""
    given = rated([2.0, 5.0, 5.0, 3.0, 1.0], [1, 1, 0, 1, 0], [0, 0, 0, 1, 1])
    sigmoid = 1 / (1 + math.exp(-0.3))
    assert kto(given, desirable=2.0).tolist() == pytest.approx([1.0, 2 * (1 - sigmoid), sigmoid, 0.0, 0.0])


def test_kto_learns_nothing_from_mismatched_rows_nor_through_the_reference_point() -> None:
    given = rated([2.0, 5.0, 3.0], [1, 0, 1], [0, 0, 1])
    assert given.policy is not None
    good, bad, mismatched = slope(kto(given), given.policy)
    assert good < 0 < bad and mismatched == 0.0


def test_ktos_reference_point_is_never_negative_and_never_guessed() -> None:
    assert kto(rated([1.0, -8.0], [1, 1], [0, 1]))[0].item() == pytest.approx(0.475021, abs=1e-6)
    with pytest.raises(DataError, match="at least two different prompts"):
        kto(rated([1.0, 2.0], [1, 0], [0, 0]))


def test_a_missing_column_is_named() -> None:
    with pytest.raises(DataError, match=r"'mismatched'.*it has: label"):
        kto(responses([1.0], [0.0], col={"label": numbers(1)}))


# --- reward and step models ----------------------------------------------------------------------------------------


def scored(*scores: float, **columns: Tensor) -> Responses:
    return Responses(score=numbers(*scores), length=numbers(*(3.0 for _ in scores)), col=columns)


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({}, 0.313262),
        ({"margin": 1.0}, 0.414370),
        ({"centring": 0.01}, 0.323262),
        ({"label_smoothing": 0.1}, 0.9 * 0.313262 + 0.1 * 1.313262),
    ],
)
def test_bradley_terry_by_hand(options: dict[str, float], value: float) -> None:
    margin = numbers(1 / 3)
    found = bradley_terry(scored(1.0, margin=margin), scored(0.0, margin=margin), **options)
    assert found.item() == pytest.approx(value, abs=1e-6)


def test_bradley_terry_of_a_ranking_is_the_mean_of_its_pairs() -> None:
    loss = bradley_terry(scored(2.0, 2.0, 1.0), scored(1.0, 0.0, 0.0))
    assert loss.mean().item() == pytest.approx(0.251150, abs=1e-6)


def test_only_centring_looks_at_the_level_of_scores() -> None:
    low, high = (scored(1.0), scored(0.0)), (scored(6.0), scored(5.0))
    assert bradley_terry(*low).item() == pytest.approx(bradley_terry(*high).item())
    assert bradley_terry(*low, centring=0.1) < bradley_terry(*high, centring=0.1)
    assert bradley_terry(scored(0.0), scored(0.0)).item() == pytest.approx(math.log(2))


def test_a_margin_without_a_column_is_refused() -> None:
    with pytest.raises(DataError, match=r"'margin'.*it has: none"):
        bradley_terry(scored(1.0), scored(0.0), margin=1.0)


def test_process_labels_by_hand() -> None:
    found = process(numbers(0.0, 2.0, 2.0, -40.0), torch.tensor([1.0, 0.0, 0.25, 0.0]))
    soft = 0.25 * math.log1p(math.exp(-2)) + 0.75 * (2 + math.log1p(math.exp(-2)))
    assert found.tolist() == pytest.approx([math.log(2), 2 + math.log1p(math.exp(-2)), soft, math.exp(-40)])
    assert found.dtype == torch.float64


@pytest.mark.parametrize("label", [-1.0, 2.0])
def test_step_labels_are_probabilities(label: float) -> None:
    with pytest.raises(DataError, match=f"labelled {label:g}"):
        process(numbers(0.0, 0.0), numbers(1.0, label))


# --- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "target", "loss", "gradient"),
    [  # old 0, clip 0.2
        (0.1, 1.0, 0.405, -0.9),
        (0.5, 1.0, 0.32, 0.0),
        (-0.5, 1.0, 1.125, -1.5),
        (0.5, -1.0, 1.125, 1.5),
        (-0.5, -1.0, 0.32, 0.0),
    ],
)
def test_value_clip_table(value: float, target: float, loss: float, gradient: float) -> None:
    new = numbers(value).requires_grad_()
    found = value_clip(new, numbers(0.0), numbers(target))
    assert found.item() == pytest.approx(loss)
    assert slope(found, new) == pytest.approx([gradient])
    assert squared(new, numbers(0.0), numbers(target)).item() == pytest.approx((value - target) ** 2 / 2)
