"""Who compares: rates of wins by hand, both orders, what a judge may not say; and what is selected from them."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from whet.errors import DataError, RewardError
from whet.journal import Journal
from whet.lab.annotators import BT
from whet.lab.data import tasks
from whet.lab.prefer import AnnotatorPrefers
from whet.rewards.prefer import BradleyTerry, Judge, WinRates, rates, win_rates
from whet.rewards.waiting import finished
from whet.rollout.feedback import beats, value
from whet.rollout.selection import selection
from whet.rollout.selection.example import of_rewards
from whet.rollout.selection.rso import accepted, rso
from whet.train.scores import Journaled
from whet.types import Group, Rollout, Score, Task

TASK = Task(id="t7", messages=())
BEATS = {"rock": "scissors", "scissors": "paper", "paper": "rock"}


def said(*texts: str, samplers: tuple[str, ...] = ()) -> Group:
    """Answers with these texts."""
    kinds = samplers or ("policy",) * len(texts)
    words = sorted(set(texts))
    answers = [
        Rollout(
            task_id="t7",
            tokens=(0, 1 + words.index(text)),
            mask=(False, True),
            source=("prompt", "sampled"),
            text=text,
            sampler=kind,  # pyright: ignore[reportArgumentType]
            index=i,
        )
        for i, (text, kind) in enumerate(zip(texts, kinds, strict=True))
    ]
    return Group(task=TASK, members=tuple((one, None) for one in answers))


def game(task: Task, a: str, b: str) -> float:
    """Rock, paper, scissors."""
    return 0.5 if a == b else float(BEATS[a] == b)


def first_is_better(task: Task, a: str, b: str) -> float:
    """Likes longer answers, and what it is shown first by 0.2."""
    return 0.4 + 0.2 + 0.1 * (len(a) - len(b))


def test_an_intransitive_judge_by_hand() -> None:
    assert finished(win_rates(said("rock", "paper", "scissors"), game)) == [0.5, 0.5, 0.5]
    # rock against paper, paper, scissors: 0, 0, 1; each paper against rock, paper, scissors: 1, 1/2, 0
    assert finished(win_rates(said("rock", "paper", "paper", "scissors"), game)) == [1 / 3, 0.5, 0.5, 2 / 3]
    with_self = finished(win_rates(said("rock", "paper", "paper", "scissors"), game, include_self=True))
    assert with_self == [1.5 / 4, 0.5, 0.5, 2.5 / 4]


def test_the_mean_rate_is_a_half_whatever_the_judge_thinks() -> None:
    drawn = Random(0)
    judge = Judge(name="any", prefer=lambda task, a, b: drawn.random())
    for size in (2, 3, 5):
        (table,) = finished(judge([said(*map(str, range(size)))]))
        found = rates(table)
        assert math.isclose(sum(map(float, found)) / size, 0.5)  # pyright: ignore[reportArgumentType]


def test_both_orders_take_the_place_out() -> None:
    group = said("a", "abc")
    assert finished(win_rates(group, first_is_better)) == pytest.approx([0.4, 0.6])  # 0.6 − 0.2, and 1 − that
    assert finished(win_rates(group, first_is_better, both_orders=True)) == pytest.approx([0.3, 0.7])
    calls: list[str] = []

    def counted(task: Task, a: str, b: str) -> float:
        calls.append(a + b)
        return 0.5

    finished(win_rates(said("a", "b", "c", "a"), counted))
    assert len(calls) == 5, "K(K − 1)/2 but for the two that are the same"
    calls.clear()
    finished(win_rates(said("a", "b", "c"), counted, both_orders=True))
    assert len(calls) == 6


def test_another_models_answers_are_compared_across_only() -> None:
    group = said("rock", "paper", "scissors", "rock", samplers=("policy", "policy", "mixture", "mixture"))
    (scored,) = finished(WinRates(name="game", compare=Judge(name="game", prefer=game))([group]))
    assert [score.value for score in scored.scores if score] == [0.75, 0.5, 0.5, 0.25]
    assert scored.scores[0] is not None and scored.scores[0].against == (None, None, 1.0, 0.5)


def test_a_coroutine_is_asked_everything_at_once() -> None:
    waiting, most = 0, 0

    async def slow(task: Task, a: str, b: str) -> float:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        await asyncio.sleep(0.01)
        waiting -= 1
        return game(task, a, b)

    groups = [said("rock", "paper", "scissors"), said("rock", "paper")]
    tables = finished(Judge(name="slow", prefer=slow)(groups))
    assert most == 4 and rates(tables[1]) == [0.0, 1.0]


@pytest.mark.parametrize("wrong", [1.2, -0.1, float("nan"), float("inf"), "a", [0.5]])
def test_what_is_no_probability_is_refused(wrong: object) -> None:
    with pytest.raises(RewardError, match=r"the judge mine returned .* on task 't7'; it must be P\(the first"):
        finished(win_rates(said("a", "b"), lambda task, a, b: wrong, name="mine"))  # pyright: ignore[reportArgumentType]


def test_a_judge_that_raises_or_hangs_is_named() -> None:
    def broken(task: Task, a: str, b: str) -> float:
        raise ValueError("no key")

    with pytest.raises(RewardError, match="the judge mine raised ValueError: no key, on task 't7'"):
        finished(win_rates(said("a", "b"), broken, name="mine"))

    async def hangs(task: Task, a: str, b: str) -> float:
        await asyncio.sleep(60)
        return 0.5

    with pytest.raises(RewardError, match=r"did not return within its deadline of 0\.05 s"):
        finished(Judge(name="mine", prefer=hangs, deadline=0.05)([said("a", "b")]))


def test_none_is_no_half() -> None:
    """Left out of the means; an answer that nobody was compared with is unscorable; a step of none is an error."""

    def choosy(task: Task, a: str, b: str) -> float | None:
        return None if "c" in (a, b) else 1.0

    reward = WinRates(name="choosy", compare=Judge(name="choosy", prefer=choosy), needed=True)
    (scored,) = finished(reward([said("a", "b", "c")]))
    assert [s.value for s in scored.scores if s] == [1.0, 0.0, None]
    assert scored.scores[2] is not None and scored.scores[2].fault == "infrastructure"
    with pytest.raises(RewardError, match="gave None for every comparison"):
        finished(reward([said("a", "c")]))
    (alone,) = finished(WinRates(name="game", compare=Judge(name="game", prefer=game))([said("rock")]))
    assert alone.scores[0] is not None and alone.scores[0].value is None


def test_bradley_terry_of_a_reward_is_antisymmetric_and_skips_the_unscorable() -> None:
    async def lengths(groups: list[Group]) -> list[Group]:
        return [g.scored([Score(value=float(len(r.text)) if r.text else None) for r in g.rollouts]) for g in groups]

    (table,) = finished(BradleyTerry(reward=lengths)([said("ab", "a", "")]))  # pyright: ignore[reportArgumentType]
    sigma = 1 / (1 + math.exp(-1.0))
    assert table[0][1] == pytest.approx(sigma) and table[1][0] == pytest.approx(1 - sigma)
    assert table[0][2] is None and rates(table)[2] is None


def test_the_labs_annotator_prefers_as_it_labels() -> None:
    task = tasks("chat", "train", 1, 0)[0]
    clean, noisy = (AnnotatorPrefers(world="chat", annotator=BT(flip_p=p)) for p in (0.0, 0.25))
    p = clean(task, "x", "y z")
    assert p is not None and noisy(task, "x", "y z") == pytest.approx(0.75 * p + 0.25 * (1 - p))
    assert clean(TASK, "x", "y") is None
    with pytest.raises(DataError, match="the annotator lab:chat compares only"):
        clean.check([TASK])


def test_what_was_compared_is_in_the_journal_with_its_table(tmp_path: Path) -> None:
    """A judge that never repeats itself is asked once; a resumed step has the very rates and tables."""
    drawn = Random(0)
    reward = WinRates(name="moody", compare=Judge(name="moody", prefer=lambda task, a, b: drawn.random()), needed=True)
    scored = []
    for _ in range(2):
        journal = Journal(tmp_path / "journal.jsonl", writable=True)
        scored.append(finished(Journaled(reward=reward, journal=journal, step=1)([said("a", "b", "c")])))
    assert scored[0] == scored[1] and scored[0][0].scores[0] is not None
    assert [score.against[i] for i, score in enumerate(scored[1][0].scores) if score] == [None] * 3


# --------------------------------------------------------------------------------------------------------- selections


@pytest.mark.parametrize("name", selection.names())
def test_every_selection_is_of_judged_answers_that_differ(name: str) -> None:
    """(better, worse) of different tokens and, where a value decides, of different values; the same for the same noise;
    nothing of one answer, of equal ones, of none that could be judged."""
    select, drawn = selection.bind(name), Random(1)
    for size in (2, 3, 6):
        group = of_rewards(*(drawn.choice([0.0, 0.5, 3.0, None]) for _ in range(size)))
        pairs = select(group, Random(5))
        assert pairs == select(group, Random(5))
        for i, j in pairs:
            assert group.scores[i].value is not None and group.scores[j].value is not None  # pyright: ignore[reportOptionalMemberAccess]
            assert i != j
            assert name in ("first_two", "rso") or value(group, i) > value(group, j)
    for nothing in (of_rewards(1.0), of_rewards(None, None), of_rewards(), of_rewards(1.0, None)):
        assert select(nothing, Random(5)) == []
    twins = said("same", "same").scored([Score(value=1.0), Score(value=0.0)])
    assert select(twins, Random(5)) == []
    assert selection.entry(name).doc.count(">>>") >= 2 and len(selection.entry(name).page) > 100


def test_of_two_answers_max_random_is_best_and_worst() -> None:
    for rewards in itertools.product((0.0, 1.0, 2.0), repeat=2):
        group = of_rewards(*rewards)
        both = selection.get("best_and_worst")(group, Random(0))
        assert selection.get("max_random")(group, Random(0)) == both
        assert selection.get("all_pairs")(group, Random(0)) == both
    losers = Counter(selection.get("max_random")(of_rewards(0.0, 5.0, 1.0), Random(s))[0][1] for s in range(200))
    assert set(losers) == {0, 2} and min(losers.values()) > 60


def test_a_drawn_label_follows_the_probability() -> None:
    group = of_rewards(0.0, 1.0)
    firsts = sum(selection.get("first_two")(group, Random(seed)) == [(0, 1)] for seed in range(2000))
    expected = beats(group, 0, 1)
    assert expected is not None and math.isclose(expected, 1 / (1 + math.e))
    assert abs(firsts / 2000 - expected) < 0.035
    assert selection.get("first_two")(group, Random(0), label="majority") == [(1, 0)]


def test_what_rejection_sampling_accepts() -> None:
    """Once through: each candidate independently with exp((r − r_max)/β), so the kept follow π exp(r/β)/Z exactly."""
    rewards, beta = (0.0, 0.5, 1.0), 0.5
    kept = Counter(
        i for s in range(3000) for i in accepted(of_rewards(*rewards), Random(s), beta=beta, keep=3, once=True)
    )
    assert kept[2] == 3000, "the best is always accepted"
    for i in (0, 1):
        assert abs(kept[i] / 3000 - math.exp((rewards[i] - 1.0) / beta)) < 0.03
    for seed in range(20):
        assert len(accepted(of_rewards(*rewards), Random(seed), beta=beta, keep=3, once=False)) == 3
        assert accepted(of_rewards(*rewards), Random(seed), beta=1e-9, keep=1, once=False) == [2], "best of n"
        assert accepted(of_rewards(*rewards), Random(seed), beta=1e9, keep=2, once=False) == [0, 1], "the first"


def test_rounds_of_rejection_sampling() -> None:
    """8 accepted: 4 pairs in the first round; in a tournament 7, whose winner beats everybody it met."""
    group = of_rewards(*(30.0 * i for i in range(8)))
    first = rso(group, Random(0), beta=1e9, label="majority")
    assert sorted(i for pair in first for i in pair) == list(range(8))
    every = rso(group, Random(0), beta=1e9, label="majority", rank="tournament")
    assert len(every) == 7 and every[-1][0] == 7 and all(i > j for i, j in every)
    seven = rso(of_rewards(*(30.0 * i for i in range(7))), Random(0), beta=1e9, rank="tournament", label="majority")
    assert len(seven) == 6 and {j for _, j in seven} == set(range(6))
