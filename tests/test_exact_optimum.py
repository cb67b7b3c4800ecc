"""Where the losses lead a policy of five answers whose every pair and ranking is listed: no sampling, float64.

With Bradley–Terry preferences of known rewards that is ref · exp(r/β)/Z, and for preferences that go round in a circle
the policy that nothing beats. A policy is its logits; it is fitted by L-BFGS until nothing moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor

from whet.losses import preference_loss, ranking_loss
from whet.losses.rating.dro import dro
from whet.losses.rating.nash_md import nash_md
from whet.losses.terms import Rankings, Responses

ARMS, BETA = 5, 0.5
REWARD = torch.tensor([0.3, -0.8, 1.1, 0.0, 0.6], dtype=torch.float64)
SHARES = torch.tensor([1, 3, 2, 4, 2], dtype=torch.float64)
REF = (SHARES / SHARES.sum()).log()
Loss = Callable[[Tensor], Tensor]


def fitted(loss: Loss, size: int = ARMS, *, extra: int = 0) -> Tensor:
    """The parameters at which a loss of (logits, and `extra` numbers) is least, from 0."""
    found = torch.zeros(size + extra, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [found], max_iter=500, tolerance_grad=1e-11, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        solver.zero_grad()
        value = loss(found)
        value.backward()
        return value

    solver.step(closure)
    return found.detach()


def tilted(temperature: float, reward: Tensor = REWARD, ref: Tensor = REF) -> Tensor:
    """ref · exp(r / temperature) / Z."""
    return (ref + reward / temperature).softmax(dim=0)


def same(found: Tensor, expected: Tensor, *, atol: float = 1e-6) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


# --- preferences that rewards explain ---------------------------------------------------------------------------------


def side(log_pi: Tensor, arms: Tensor, ref: Tensor, **columns: Tensor) -> Responses:
    col = {name: column[arms] for name, column in columns.items()}
    return Responses(policy=log_pi[arms], anchor=ref[arms], length=torch.ones(len(arms)), col=col)


def of_pairs(name: str, preference: Tensor, ref: Tensor = REF, *, options: Any = None, **columns: Tensor) -> Loss:
    """The expected loss over every ordered pair, equally often shown, the first chosen as often as it is preferred."""
    size, function = len(preference), preference_loss.bind(name, **(options or {}))
    first, second = (~torch.eye(size, dtype=torch.bool)).nonzero().unbind(1)
    weight = preference[first, second]

    def loss(logits: Tensor) -> Tensor:
        log_pi = logits.log_softmax(dim=0)
        return (weight * function(side(log_pi, first, ref, **columns), side(log_pi, second, ref, **columns))).mean()

    return loss


BRADLEY_TERRY = (REWARD[:, None] - REWARD[None, :]).sigmoid()

PAIRED: dict[str, dict[str, Any]] = {
    "dpo": {"beta": BETA},
    "gpo": {"beta": BETA, "link": "logistic"},
}
"""Losses of pairs whose optimum on Bradley–Terry labels has the temperature β."""

REGRESSED: dict[str, tuple[str, dict[str, Any]]] = {
    "rebel": ("rebel", {"eta": 1 / BETA}),
    "rpo, backward": ("rpo", {"beta": BETA, "form": "backward"}),
    "rpo, forward": ("rpo", {"beta": BETA, "form": "forward"}),
    "rpo, squared": ("rpo", {"beta": BETA, "form": "squared"}),
}
"""Losses of pairs that read the rewards themselves: it does not matter which answer is called chosen."""


@pytest.mark.parametrize("name", REGRESSED)
def test_pairs_with_their_rewards_lead_to_the_tilted_reference(name: str) -> None:
    loss, options = REGRESSED[name]
    for label in (BRADLEY_TERRY, torch.full((ARMS, ARMS), 0.5), 1 - BRADLEY_TERRY):
        same(fitted(of_pairs(loss, label.double(), options=options, rating=REWARD)).softmax(dim=0), tilted(BETA))


@pytest.mark.parametrize("name", PAIRED)
def test_pairs_labelled_by_rewards_lead_to_the_tilted_reference(name: str) -> None:
    same(fitted(of_pairs(name, BRADLEY_TERRY, options=PAIRED[name])).softmax(dim=0), tilted(BETA))


DIVERGENCES: dict[str, Callable[[Tensor], Tensor]] = {
    "reverse_kl": lambda u: u * u.log(),
    "forward_kl": lambda u: -u.log(),
    "js": lambda u: u * u.log() - (u + 1) * ((u + 1) / 2).log(),
    "alpha": lambda u: (u**0.7 - 0.7 * u - 0.3) / (0.3 * (0.3 - 1)),
}
"""f of every divergence of f-DPO, alpha at 0.3: D = Σ ref · f(π/ref)."""


@pytest.mark.parametrize("name", DIVERGENCES)
def test_f_dpo_leads_to_the_most_reward_at_that_distance(name: str) -> None:
    """The same policy as by maximising E[r] − β D directly."""

    def unhappy(logits: Tensor) -> Tensor:
        chance = logits.softmax(dim=0)
        return BETA * (REF.exp() * DIVERGENCES[name](chance / REF.exp())).sum() - (chance * REWARD).sum()

    options = {"beta": BETA, "divergence": name, "alpha": 0.3}
    found = fitted(of_pairs("f_dpo", BRADLEY_TERRY, options=options)).softmax(dim=0)
    same(found, fitted(unhappy).softmax(dim=0), atol=1e-5)
    assert ((found - tilted(BETA)).abs().max() < 1e-5) == (name == "reverse_kl")


def test_modpo_leads_to_the_tilt_by_the_weighted_sum_of_both_rewards() -> None:
    """Pairs are labelled by one reward, the other is in the margins."""
    other = REWARD.flip(0)
    loss = of_pairs("modpo", BRADLEY_TERRY, options={"beta": BETA, "w_k": 0.6}, margin_reward=0.4 * other)
    same(fitted(loss).softmax(dim=0), tilted(BETA, 0.6 * REWARD + 0.4 * other))


def test_rdpo_sees_through_labels_that_are_wrong_at_a_known_rate_and_cdpo_does_not() -> None:
    flipped = 0.8 * BRADLEY_TERRY + 0.2 * BRADLEY_TERRY.T
    options = {"beta": BETA, "label_smoothing": 0.2}
    same(fitted(of_pairs("rdpo", flipped, options=options)).softmax(dim=0), tilted(BETA))
    for name in ("cdpo", "dpo"):
        other = fitted(of_pairs(name, flipped, options=options)).softmax(dim=0)
        assert (other - tilted(BETA)).abs().max() > 0.02, name


def test_ipo_goes_by_how_often_an_answer_wins() -> None:
    """Its optimum is ref · exp(P(y beats a random answer)/β)/Z, whatever explains P; DPO's is another."""
    wins = BRADLEY_TERRY.mean(dim=1)
    found = fitted(of_pairs("ipo", BRADLEY_TERRY, options={"beta": BETA})).softmax(dim=0)
    same(found, tilted(BETA, wins))
    assert (found - tilted(BETA)).abs().max() > 0.02


# --- single answers and rankings --------------------------------------------------------------------------------------


def test_dro_leads_to_the_tilted_reference_and_its_value_to_the_log_of_z() -> None:
    every = torch.arange(ARMS)

    def loss(found: Tensor) -> Tensor:
        given = side(found[:-1].log_softmax(dim=0), every, REF, rating=REWARD)
        return (REF.exp() * dro(replace(given, value=found[-1].expand(ARMS)), tau=BETA)).sum()

    found = fitted(loss, extra=1)
    same(found[:-1].softmax(dim=0), tilted(BETA))
    same(found[-1], BETA * (REF + REWARD / BETA).logsumexp(dim=0))


def table(arms: Tensor, log_pi: Tensor, rating: Tensor, ref: Tensor) -> Rankings:
    """Rankings of the arms of each row."""
    return Rankings(
        there=torch.ones_like(arms, dtype=torch.bool),
        rating=rating,
        length=torch.ones_like(arms, dtype=torch.float64),
        policy=log_pi[arms],
        anchor=ref[arms],
    )


def listed(sizes: Iterable[int]) -> list[Tensor]:
    """Every ordered choice of so many arms."""
    return [torch.tensor(list(permutations(range(ARMS), size))) for size in sizes]


RATED: dict[str, tuple[dict[str, Any], float]] = {
    "info_nca": ({"beta": 0.25, "alpha": 2.0}, 0.5),
    "exo": ({"beta": 0.25, "beta_r": 2.0}, 0.5),
}
"""Losses of rated rankings, and the product of their two temperatures."""


@pytest.mark.parametrize("name", RATED)
def test_rated_rankings_lead_to_the_tilted_reference(name: str) -> None:
    """Whichever answers are shown together: two, three or all five."""
    options, temperature = RATED[name]
    function = ranking_loss.bind(name, **options)
    for arms in (*listed((2, 3)), torch.arange(ARMS)[None]):

        def loss(logits: Tensor, arms: Tensor = arms) -> Tensor:
            return function(table(arms, logits.log_softmax(dim=0), REWARD[arms], REF)).mean()

        same(fitted(loss).softmax(dim=0), tilted(temperature), atol=1e-5)


def test_plackett_luce_leads_to_the_tilted_reference() -> None:
    """Orders of three answers, each as often as rewards make it."""
    (arms,) = listed((3,))
    reward = REWARD[arms]
    left = reward.flip(1).logcumsumexp(dim=1).flip(1)
    chance = (reward - left).sum(dim=1).exp()
    function = ranking_loss.bind("plackett_luce", beta=BETA)
    order = torch.tensor([3.0, 2.0, 1.0]).double().expand(len(arms), 3)

    def loss(logits: Tensor) -> Tensor:
        return (chance * function(table(arms, logits.log_softmax(dim=0), order, REF))).sum()

    same(fitted(loss).softmax(dim=0), tilted(BETA))


def test_nca_leads_to_the_tilted_reference_where_answers_come_as_often_as_the_reference_draws_them() -> None:
    """Twelve answers, some of them the same: β = 1, and alpha is the temperature; shown alike often they mislead."""
    drawn = torch.arange(ARMS).repeat_interleave(SHARES.long())
    found = {}
    for name, arms in (("drawn", drawn), ("each once", torch.arange(ARMS))):
        function = ranking_loss.bind("nca", beta=1.0, alpha=BETA)

        def loss(logits: Tensor, arms: Tensor = arms, function: Callable[..., Tensor] = function) -> Tensor:
            return function(table(arms[None], logits.log_softmax(dim=0), REWARD[arms][None], REF)).sum()

        found[name] = fitted(loss).softmax(dim=0)
    same(found["drawn"], tilted(BETA))
    assert (found["each once"] - tilted(BETA)).abs().max() > 0.02


# --- preferences that go round in a circle ----------------------------------------------------------------------------

EVEN = 0.5 + 0.4 * torch.tensor([[0.0, 1, -1], [-1, 0, 1], [1, -1, 0]], dtype=torch.float64)
UNEVEN = 0.5 + torch.tensor([[0.0, 0.1, -0.4], [-0.1, 0, 0.3], [0.4, -0.3, 0]], dtype=torch.float64)
MINIMAX = torch.tensor([0.3, 0.4, 0.1], dtype=torch.float64) / 0.8
"""What nothing beats under UNEVEN: each answer against it wins half of the time."""
START = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64).log()


def regret(policy: Tensor, preference: Tensor) -> float:
    """How much more than half the best answer to a policy wins."""
    return float((preference @ policy).max()) - 0.5


def descended(preference: Tensor, ref: Tensor, *, tau: float, mixture: float, steps: int) -> Tensor:
    """log π after plain gradient steps on Nash-MD's loss, averaged over the policy's own answers, from START."""
    logits, every = START.clone().requires_grad_(), torch.arange(len(ref))
    for _ in range(steps):
        log_pi = logits.log_softmax(dim=0)
        other = ((1 - mixture) * log_pi + mixture * ref).softmax(dim=0).detach()
        seen = side(log_pi, every, ref, win_rate=preference @ other)
        (slope,) = torch.autograd.grad((log_pi.detach().exp() * nash_md(seen, tau=tau)).sum(), logits)
        logits = (logits - 3 * slope).detach().requires_grad_()
    return logits.detach().log_softmax(dim=0)


@pytest.mark.parametrize("mixture", [0.0, 0.25])
def test_nash_md_settles_at_the_even_mixture_of_rock_paper_and_scissors(mixture: float) -> None:
    even = torch.full((3,), 1 / 3, dtype=torch.float64)
    same(descended(EVEN, even.log(), tau=0.2, mixture=mixture, steps=300).exp(), even)


def test_nash_md_settles_where_its_page_says() -> None:
    """π = ref · exp(P(y beats π)/τ)/Z: the regularised Nash policy, and no other."""
    ref = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log()
    found = descended(UNEVEN, ref, tau=0.2, mixture=0.0, steps=400).exp()
    same(found, tilted(0.2, UNEVEN @ found, ref))
    assert regret(found, UNEVEN) > 0.01, "the reference holds it back"


def test_rounds_of_nash_md_lead_to_what_nothing_beats_and_dpo_does_not() -> None:
    """Every round starts its reference from where the last one ended."""
    ref = START
    for _ in range(12):
        ref = descended(UNEVEN, ref, tau=0.1, mixture=0.0, steps=120)
    same(ref.exp(), MINIMAX, atol=1e-3)
    assert regret(ref.exp(), UNEVEN) < 1e-3
    for beta in (0.05, 0.2, 1.0):  # rewards that explain a circle best are not what plays it best
        policy = fitted(of_pairs("dpo", UNEVEN, START, options={"beta": beta}), 3).softmax(dim=0)
        assert regret(policy, UNEVEN) > 0.02, beta
    uniform = fitted(of_pairs("dpo", UNEVEN, torch.zeros(3).double(), options={"beta": 0.2}), 3).softmax(dim=0)
    assert regret(uniform, UNEVEN) > 0.02


SELF_PLAY: dict[str, dict[str, Any]] = {"sppo": {"eta": 5.0}, "dno": {"eta": 0.2}, "rebel": {"eta": 5.0}}
"""Losses of pairs that read how often each answer beats the policy of the round before."""


@pytest.mark.parametrize("name", SELF_PLAY)
def test_rounds_of_self_play_stay_at_what_nothing_beats_and_only_there(name: str) -> None:
    for policy, still in ((MINIMAX, True), (torch.full((3,), 1 / 3).double(), False)):
        wins, even = UNEVEN @ policy, torch.full((3, 3), 0.5).double()
        loss = of_pairs(name, even, policy.log(), options=SELF_PLAY[name], win_rate=wins, rating=wins)
        after = fitted(loss, 3).softmax(dim=0)
        assert (float((after - policy).abs().max()) < 1e-6) == still


def test_the_average_of_rounds_of_self_play_is_what_nothing_beats() -> None:
    """A round of exact regression is a step of multiplicative weights: it circles, and its mean comes to rest."""
    ref, met = START, []
    for _ in range(150):
        met.append(ref.exp())
        loss = of_pairs("rebel", torch.full((3, 3), 0.5).double(), ref, options={"eta": 1.0}, rating=UNEVEN @ met[-1])
        ref = fitted(loss, 3).log_softmax(dim=0)
    mean = torch.stack(met).mean(dim=0)
    assert regret(mean, UNEVEN) < 0.02 < min(regret(met[0], UNEVEN), regret(met[-1], UNEVEN))


def test_against_itself_the_policy_that_nothing_beats_has_no_advantage() -> None:
    """SPO's reward, the mean rate of wins over one's own answers, is one half everywhere there, and only there."""
    every = torch.arange(3)
    for policy, still in ((MINIMAX, True), (torch.full((3,), 1 / 3).double(), False)):
        log_pi = policy.log().requires_grad_()
        seen = side(log_pi, every, policy.log(), win_rate=UNEVEN @ policy)
        (slope,) = torch.autograd.grad((policy * nash_md(seen, tau=0.1)).sum(), log_pi)
        assert (float(slope.abs().max()) < 1e-12) == still
        assert float((policy * (UNEVEN @ policy)).sum()) == pytest.approx(0.5)
