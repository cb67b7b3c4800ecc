"""Laws that hold for every loss on every shelf: found by discovery, so a new file is tested by being there.

A member for which a law is rightly false says so in its decorator, `breaks={"law": "why"}`; then the law must fail.
"""

from __future__ import annotations

import doctest
import importlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from laws import Fn, Law, hold, members
from torch import Tensor
from toys import forest

import whet.advantages
import whet.losses
from whet.losses import (
    kl_estimator,
    policy_objective,
    preference_loss,
    rating_loss,
    ratio_pooling,
    reward_loss,
    statistic,
    step_loss,
    token_loss,
    value_loss,
    weighting,
)
from whet.losses.terms import Responses
from whet.losses.weights import sequence_mean
from whet.members import Entry
from whet.registry import Shelf

LOSSES = [shelf for shelf in vars(whet.losses).values() if isinstance(shelf, Shelf)]
SHELVES = [*LOSSES, whet.advantages.advantage]


def normal(*shape: int, spread: float = 1.0) -> Tensor:
    return (spread * torch.randn(*shape, dtype=torch.float64)).requires_grad_()


def columns(size: int) -> dict[str, Tensor]:
    made = {name: torch.rand(size, dtype=torch.float64) for name in ("margin", "weight", "rating")}
    every = torch.arange(size)
    return made | {"label": (every % 2).double(), "mismatched": (every % 3 == 2).double()}


def view(size: int, *, spread: float = 1.0) -> Responses:
    """Random responses with everything a loss may read."""
    length = torch.randint(2, 9, (size,)).double()
    return Responses(
        length=length,
        policy=normal(size, spread=spread),
        anchor=(spread * torch.randn(size)).double(),
        score=normal(size, spread=spread),
        group=torch.arange(size),
        stat={name: normal(size).detach().abs().requires_grad_() for name in statistic.names()},
        col=columns(size),
    )


def level(size: int) -> Responses:
    """Responses that are all alike to policy and anchor, per token, with score 0."""
    length = torch.full((size,), 4.0, dtype=torch.float64)
    return replace(
        view(size),
        length=length,
        policy=(-2 * length).requires_grad_(),
        anchor=-2 * length,
        score=torch.zeros(size, dtype=torch.float64, requires_grad=True),
        stat={name: torch.zeros(size, dtype=torch.float64, requires_grad=True) for name in statistic.names()},
    )


def leaves(responses: Responses) -> list[Tensor]:
    assert responses.policy is not None and responses.score is not None
    return [responses.policy, responses.score, *responses.stat.values()]


def gradients(value: Tensor, at: list[Tensor]) -> list[Tensor | None]:
    return list(torch.autograd.grad(value.sum(), at, allow_unused=True, retain_graph=True))


def together(responses: Responses, entry: Entry) -> Tensor:
    """The gradient's place: the head's score where the loss needs it, else log π."""
    found = responses.score if "score" in entry.declarations["needs"] else responses.policy
    assert found is not None
    return found


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


# --- every member of every shelf -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shelf", SHELVES, ids=lambda s: s.kind)
def test_every_shelf_has_members_with_a_sentence_an_example_and_known_exceptions(shelf: Shelf) -> None:
    assert shelf.names()
    for entry in shelf.entries():
        module = importlib.import_module(entry.module)
        examples = doctest.DocTestParser().get_examples(entry.doc)
        assert examples, f"{entry.place}: {entry.name} has no worked example"
        assert entry.name in "".join(example.source for example in examples), f"{entry.name}'s example does not call it"
        assert entry.page == (module.__doc__ or "").strip() and len(entry.page) > 100, (
            f"{entry.module} explains nothing"
        )
        if shelf is not whet.advantages.advantage:
            assert set(entry.declarations.get("breaks", {})) <= LAWS[shelf.kind], f"{entry.name} breaks an unknown law"
        shelf.get(entry.name)


# --- preference and reward losses ----------------------------------------------------------------------------------


def one_finite_value_per_pair(loss: Fn, entry: Entry) -> None:
    for spread in (1.0, 1e3):
        chosen, rejected = view(6, spread=spread), view(6, spread=spread)
        value = loss(chosen, rejected)
        assert value.shape == (6,) and bool(value.isfinite().all())
        found = [g for g in gradients(value, [*leaves(chosen), *leaves(rejected)]) if g is not None]
        assert found and all(bool(g.isfinite().all()) for g in found)


def at_equal_margins_chosen_rises_and_rejected_falls(loss: Fn, entry: Entry) -> None:
    chosen, rejected = level(3), level(3)
    up, down = gradients(loss(chosen, rejected), [together(chosen, entry), together(rejected, entry)])
    assert up is not None and down is not None
    assert bool((up < 0).all()) and bool((down > 0).all())


def pairs_do_not_affect_one_another(loss: Fn, entry: Entry) -> None:
    chosen, rejected = view(6), view(6)
    value, some = loss(chosen, rejected), torch.tensor([4, 1])
    torch.testing.assert_close(loss(chosen.take(some), rejected.take(some)), value[some])
    for leaf in gradients(value[0], [together(chosen, entry), together(rejected, entry)]):
        assert leaf is not None and bool((leaf[1:] == 0).all())


PAIRS = (
    one_finite_value_per_pair,
    at_equal_margins_chosen_rises_and_rejected_falls,
    pairs_do_not_affect_one_another,
)


@pytest.mark.parametrize("law", PAIRS, ids=lambda law: law.__name__)
@pytest.mark.parametrize(("shelf", "name", "options"), members(preference_loss, reward_loss))
def test_pairs(law: Law, shelf: Shelf, name: str, options: dict[str, Any]) -> None:
    couples = shelf.entry(name).declarations.get("couples")
    if law is pairs_do_not_affect_one_another and couples:
        with pytest.raises(AssertionError):
            law(shelf.bind(name, **options), shelf.entry(name))
    elif not (law is at_equal_margins_chosen_rises_and_rejected_falls and options.get("lam") == 0):
        hold(law, shelf, name, options)


@pytest.mark.parametrize("name", [e.name for e in preference_loss.entries()])
def test_a_loss_declares_what_it_reads(name: str) -> None:
    """A view without what was not declared serves; without what was declared it does not."""
    needs = set(preference_loss.entry(name).declarations["needs"])
    whole, loss = view(4), preference_loss.bind(name)
    bare = Responses(
        length=whole.length,
        policy=whole.policy if "logprobs" in needs else None,
        anchor=whole.anchor if "reference" in needs else None,
        stat={key: value for key, value in whole.stat.items() if key in needs},
    )
    assert loss(bare, bare).shape == (4,)
    for missing in needs:
        less = replace(
            bare,
            policy=None if missing == "logprobs" else bare.policy,
            anchor=None if missing == "reference" else bare.anchor,
            stat={key: value for key, value in bare.stat.items() if key != missing},
        )
        with pytest.raises((AssertionError, KeyError)):
            loss(less, less)


# --- rating losses -------------------------------------------------------------------------------------------------


def one_finite_value_per_response(loss: Fn, entry: Entry) -> None:
    for spread in (1.0, 1e3):
        given = view(6, spread=spread)
        value = loss(given)
        assert value.shape == (6,) and bool(value.isfinite().all())
        found = [g for g in gradients(value, leaves(given)) if g is not None]
        assert found and all(bool(g.isfinite().all()) for g in found)


def good_answers_rise_and_bad_ones_fall(loss: Fn, entry: Entry) -> None:
    given = level(6)
    slope = gradients(loss(given), [together(given, entry)])[0]
    assert slope is not None
    counts = given.col["mismatched"] == 0
    assert bool((slope[counts & (given.col["label"] == 1)] < 0).all())
    assert bool((slope[counts & (given.col["label"] == 0)] > 0).all())
    assert bool((slope[~counts] == 0).all())


def order_does_not_matter(loss: Fn, entry: Entry) -> None:
    given, order = view(6), torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(loss(given.take(order)), loss(given)[order])


def it_couples_if_it_says_so(loss: Fn, entry: Entry) -> None:
    given = view(6)
    assert given.policy is not None and given.score is not None
    moved = [5.0 * (torch.arange(6) > 0) + x for x in (given.policy, given.score)]
    changed = bool(loss(given)[0] != loss(replace(given, policy=moved[0], score=moved[1]))[0])
    assert changed == (entry.declarations.get("couples") == "step")


RATINGS = (
    one_finite_value_per_response,
    good_answers_rise_and_bad_ones_fall,
    order_does_not_matter,
    it_couples_if_it_says_so,
)


@pytest.mark.parametrize("law", RATINGS, ids=lambda law: law.__name__)
@pytest.mark.parametrize(("shelf", "name", "options"), members(rating_loss))
def test_ratings(law: Law, shelf: Shelf, name: str, options: dict[str, Any]) -> None:
    hold(law, shelf, name, options)


# --- losses per token or label: each value depends on its own entry alone -------------------------------------------


def items(*inputs: Tensor) -> Law:
    def law(loss: Fn, entry: Entry) -> None:
        value, some = loss(*inputs), torch.tensor([5, 2])
        assert value.shape == inputs[0].shape and bool(value.isfinite().all())
        torch.testing.assert_close(loss(*(x[some] for x in inputs)), value[some])
        slope = gradients(value[3], [inputs[0]])[0]
        assert slope is not None and bool(slope.isfinite().all())
        assert bool((slope[torch.arange(len(slope)) != 3] == 0).all())

    law.__name__ = "items_do_not_affect_one_another"
    return law


def signs(size: int) -> Tensor:
    return torch.where(torch.arange(size) % 2 == 0, 1.0, -1.0).double() * torch.rand(size).double()


@pytest.mark.parametrize("spread", [1.0, 1e3])
@pytest.mark.parametrize(("shelf", "name", "options"), members(policy_objective, token_loss, step_loss, value_loss))
def test_items(shelf: Shelf, name: str, options: dict[str, Any], spread: float) -> None:
    labels = torch.rand(6, dtype=torch.float64)
    second = {policy_objective.kind: (signs(6),), step_loss.kind: (labels,), value_loss.kind: (labels, 3 * labels)}
    hold(items(normal(6, spread=spread), *second.get(shelf.kind, ())), shelf, name, options)


def at_equal_policies_the_gradient_is_reinforces(objective: Fn, entry: Entry) -> None:
    """I01 and part E 5: at ratio 1 every objective follows A·∇log π, and an advantage of 0 teaches nothing."""
    ratio, advantage = torch.zeros(6, dtype=torch.float64, requires_grad=True), signs(6)
    advantage[2] = 0.0
    slope = gradients(objective(ratio, advantage), [ratio])[0]
    assert slope is not None
    torch.testing.assert_close(slope, -advantage, rtol=0, atol=1e-12)


def what_is_better_than_expected_rises(objective: Fn, entry: Entry) -> None:
    """No objective pushes a token against its advantage, however far the policies are apart."""
    ratio, advantage = normal(64), signs(64)
    slope = gradients(objective(ratio, advantage), [ratio])[0]
    assert slope is not None and bool((slope * advantage <= 0).all())


POLICY = (at_equal_policies_the_gradient_is_reinforces, what_is_better_than_expected_rises)


@pytest.mark.parametrize("law", POLICY, ids=lambda law: law.__name__)
@pytest.mark.parametrize(("shelf", "name", "options"), members(policy_objective))
def test_policy_objectives(law: Law, shelf: Shelf, name: str, options: dict[str, Any]) -> None:
    hold(law, shelf, name, options)


def a_better_token_costs_less(loss: Fn, entry: Entry) -> None:
    """Likelihood or entropy: more of what the loss is given is what it asks for."""
    given = normal(6)
    slope = gradients(loss(given), [given])[0]
    assert slope is not None and bool((slope < 0).all())


@pytest.mark.parametrize(("shelf", "name", "options"), members(token_loss))
def test_token_losses(shelf: Shelf, name: str, options: dict[str, Any]) -> None:
    hold(a_better_token_costs_less, shelf, name, options)
    assert set(shelf.entry(name).declarations["needs"]) == set(shelf.entry(name).inputs)


def right_steps_rise_and_wrong_ones_fall(loss: Fn, entry: Entry) -> None:
    score, label = torch.zeros(6, dtype=torch.float64, requires_grad=True), torch.arange(6) % 2.0
    slope = gradients(loss(score, label), [score])[0]
    assert slope is not None and bool(((slope < 0) == (label == 1)).all()) and bool((slope != 0).all())


@pytest.mark.parametrize(("shelf", "name", "options"), members(step_loss))
def test_step_losses(shelf: Shelf, name: str, options: dict[str, Any]) -> None:
    hold(right_steps_rise_and_wrong_ones_fall, shelf, name, options)


def values_move_towards_their_targets(loss: Fn, entry: Entry) -> None:
    value = normal(6)
    target = value.detach() + signs(6)
    slope = gradients(loss(value, value.detach(), target), [value])[0]
    assert slope is not None and bool(((slope < 0) == (target > value)).all())
    assert loss(target, target, target).tolist() == [0.0] * 6


@pytest.mark.parametrize(("shelf", "name", "options"), members(value_loss))
def test_value_losses(shelf: Shelf, name: str, options: dict[str, Any]) -> None:
    hold(values_move_towards_their_targets, shelf, name, options)


# --- KL estimators, ratio poolings, weights, statistics --------------------------------------------------------------


def it_is_the_divergence_of_close_distributions(estimate: Fn, entry: Entry) -> None:
    """0 where the two agree, and to second order Σ π log(π/ref) where they nearly do (I19)."""
    reference = torch.randn(5, dtype=torch.float64).log_softmax(-1)
    policy = (reference + 0.02 * torch.randn(5, dtype=torch.float64)).log_softmax(-1)
    exact = (policy.exp() * (policy - reference)).sum().item()
    assert estimate(torch.zeros(3, dtype=torch.float64)).tolist() == [0.0] * 3
    assert (policy.exp() * estimate(policy - reference)).sum().item() == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize(("shelf", "name", "options"), members(kl_estimator))
def test_kl_estimators(shelf: Shelf, name: str, options: dict[str, Any]) -> None:
    hold(items(normal(6)), shelf, name, options)
    hold(it_is_the_divergence_of_close_distributions, shelf, name, options)
    extreme = torch.tensor([-1e3, 1e3], requires_grad=True)
    value = shelf.bind(name, **options)(extreme)
    assert bool(torch.stack([value, *torch.autograd.grad(value.sum(), extreme)]).isfinite().all())


def pooling_keeps_what_a_response_agrees_on(pooling: Fn, entry: Entry) -> None:
    """Responses do not mix; a log-ratio that all tokens share is kept; one-token responses are left alone."""
    batch = forest([[3, 1], [2]])
    same = torch.tensor([0.3, -0.5, 0.9], dtype=torch.float64)[batch.row]
    torch.testing.assert_close(pooling(same, batch.row, batch.length), same)
    ratio = normal(6)
    pooled = pooling(ratio, batch.row, batch.length)
    torch.testing.assert_close(pooled[3], ratio[3])
    for n in range(6):
        slope = torch.autograd.grad(pooled[n], ratio, retain_graph=True)[0]
        assert bool((slope[batch.row != batch.row[n]] == 0).all())


def pooling_keeps_the_policy_gradient(pooling: Fn, entry: Entry) -> None:
    """On-policy with one advantage per response, under the weights that average inside it."""
    batch = forest([[3, 1], [2]])
    weight = sequence_mean(batch).double() * signs(3)[batch.row]
    ratio = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad((weight * pooling(ratio, batch.row, batch.length).exp()).sum(), ratio)
    torch.testing.assert_close(slope, weight, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("law", [pooling_keeps_what_a_response_agrees_on, pooling_keeps_the_policy_gradient])
@pytest.mark.parametrize(("shelf", "name", "options"), members(ratio_pooling))
def test_ratio_poolings(law: Law, shelf: Shelf, name: str, options: dict[str, Any]) -> None:
    hold(law, shelf, name, options)


def weights_are_a_mean(weigh: Fn, entry: Entry) -> None:
    """Never negative, one per counted token, and a step that is given twice weighs as much as once."""
    once, twice = forest([[3, 1], [2]]), forest([[3, 1], [2], [3, 1], [2]])
    weight = weigh(once)
    assert weight.shape == (6,) and bool((weight > 0).all())
    torch.testing.assert_close(weigh(twice), torch.cat([weight, weight]) / 2)


def tokens_of_a_response_weigh_the_same(weigh: Fn, entry: Entry) -> None:
    batch = forest([[3, 1], [2]])
    for row in range(3):
        assert weigh(batch)[batch.row == row].unique().numel() == 1


def a_sum_with_weights_is_the_same_for_any_cut(weigh: Fn, entry: Entry) -> None:
    """T8, I06: weights are made once; pieces of any size only sum."""
    batch = forest([[3, 1, 4], [2, 6], [5]])
    value = torch.randn(21, dtype=torch.float64)
    whole = batch.with_columns(token={"weight": weigh(batch), "value": value})
    total = (whole.token["weight"] * value).sum()
    for budget in (4, 8, 100):
        pieces = whole.split(budget)
        assert len(pieces) > 1 or budget == 100
        torch.testing.assert_close(
            torch.stack([(p.token["weight"] * p.token["value"]).sum() for p in pieces]).sum(), total
        )


WEIGHTS = (weights_are_a_mean, tokens_of_a_response_weigh_the_same, a_sum_with_weights_is_the_same_for_any_cut)


@pytest.mark.parametrize("law", WEIGHTS, ids=lambda law: law.__name__)
@pytest.mark.parametrize(("shelf", "name", "options"), members(weighting))
def test_weights(law: Law, shelf: Shelf, name: str, options: dict[str, Any]) -> None:
    hold(law, shelf, name, options)


def a_statistic_is_of_the_distribution(measure: Fn, entry: Entry) -> None:
    """One finite number per row with finite gradients; constants added to logits change nothing; rows stay apart."""
    logits, other = normal(4, 7), normal(4, 7, spread=30.0).detach()
    value = measure(logits, other)
    assert value.shape == (4,) and bool(value.isfinite().all())
    torch.testing.assert_close(measure(logits + 3.0, other - 2.0), value)
    slope = gradients(value[1], [logits])[0]
    assert slope is not None and bool(slope.isfinite().all())
    assert bool((slope[[0, 2, 3]] == 0).all())
    assert torch.autograd.gradcheck(lambda z: measure(z, other), logits, raise_exception=False)
    assert slope[1].abs().max() > 1e-3


@pytest.mark.parametrize(("shelf", "name", "options"), members(statistic))
def test_statistics(shelf: Shelf, name: str, options: dict[str, Any]) -> None:
    hold(a_statistic_is_of_the_distribution, shelf, name, options)


ITEMS = {"items_do_not_affect_one_another"}
LAWS: dict[str, set[str]] = {
    preference_loss.kind: {law.__name__ for law in PAIRS},
    reward_loss.kind: {law.__name__ for law in PAIRS},
    rating_loss.kind: {law.__name__ for law in RATINGS},
    policy_objective.kind: ITEMS | {law.__name__ for law in POLICY},
    token_loss.kind: ITEMS | {a_better_token_costs_less.__name__},
    step_loss.kind: ITEMS | {right_steps_rise_and_wrong_ones_fall.__name__},
    value_loss.kind: ITEMS | {values_move_towards_their_targets.__name__},
    kl_estimator.kind: ITEMS | {it_is_the_divergence_of_close_distributions.__name__},
    ratio_pooling.kind: {pooling_keeps_what_a_response_agrees_on.__name__, pooling_keeps_the_policy_gradient.__name__},
    weighting.kind: {law.__name__ for law in WEIGHTS},
    statistic.kind: {a_statistic_is_of_the_distribution.__name__},
}
