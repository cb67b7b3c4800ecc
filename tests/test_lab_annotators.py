"""Annotators err as often as they say, in the directions they say, and the ceiling is exact."""

from __future__ import annotations

import math
from itertools import pairwise
from random import Random
from statistics import mean

import pytest

from whet.lab.annotators import ATTRIBUTES, BT, Attributes5, Edit, Judged, KWise, Likert4, ceiling
from whet.lab.data import demonstrations, label_pairs, rank_answers, shuffled_ranks, tasks
from whet.lab.worlds import WORLDS, gold

HIGH, LOW = Judged(gold=1.0, length=10), Judged(gold=0.4, length=16)
DRAWS = 4000
FOUR_SIGMA = 4 * 0.5 / math.sqrt(DRAWS)


def share_first(annotator: BT | Likert4, a: Judged, b: Judged) -> float:
    return mean(annotator.compare(f"pair{i}", a, b).first for i in range(DRAWS))


@pytest.mark.parametrize(
    ("annotator", "expected"),
    [
        (BT(tau=0.6), 1 / (1 + math.exp(-1.0))),
        (BT(tau=0.6, flip_p=0.2), 0.8 / (1 + math.exp(-1.0)) + 0.2 / (1 + math.exp(1.0))),
        (BT(tau=0.6, length_bias=0.5), 1 / (1 + math.exp(2.0))),  # six words shorter: 1 - 3
        (BT(tau=0.6, position_bias=0.7), 1 / (1 + math.exp(-1.7))),
    ],
)
def test_frequencies_are_the_probabilities(annotator: BT, expected: float) -> None:
    assert annotator.probability(HIGH, LOW) == pytest.approx(expected)
    assert share_first(annotator, HIGH, LOW) == pytest.approx(expected, abs=FOUR_SIGMA)


def test_without_position_bias_the_order_does_not_matter_and_with_it_the_first_gains() -> None:
    fair, biased = BT(tau=0.6), BT(tau=0.6, position_bias=0.7)
    assert fair.probability(HIGH, LOW) == pytest.approx(1 - fair.probability(LOW, HIGH))
    assert biased.probability(HIGH, LOW) + biased.probability(LOW, HIGH) > 1.1


def test_a_label_depends_on_seed_and_id_only() -> None:
    first = [BT(seed=1).compare(f"p{i}", HIGH, LOW) for i in range(50)]
    again = [BT(seed=1).compare(f"p{i}", HIGH, LOW) for i in reversed(range(50))]
    other = [BT(seed=2).compare(f"p{i}", HIGH, LOW) for i in range(50)]
    assert first == again[::-1]
    assert first != other


def test_likert_strength_grows_with_the_difference_and_keeps_the_verdict() -> None:
    likert = Likert4(verdict=BT(tau=0.6))
    assert [likert.strength(d) for d in (0.0, 0.3, -1.0, 2.0)] == [1, 2, 3, 4]
    label = likert.compare("p", HIGH, LOW)
    assert label.first == BT(tau=0.6).compare("p", HIGH, LOW).first
    assert label.margin == 2.0


def test_two_answers_of_a_ranking_fall_as_bradley_terry_says() -> None:
    answers = [HIGH, LOW, Judged(gold=0.0), Judged(gold=2.0)]
    ranks = [KWise(k=4, tau=0.6).rank(f"g{i}", answers) for i in range(DRAWS)]
    assert all(sorted(rank) == [0, 1, 2, 3] for rank in ranks)
    above = mean(rank.index(0) < rank.index(1) for rank in ranks)
    assert above == pytest.approx(1 / (1 + math.exp(-1.0)), abs=FOUR_SIGMA)


def test_a_ranking_of_the_wrong_number_is_refused() -> None:
    with pytest.raises(ValueError, match="k=4"):
        KWise(k=4).rank("g", [HIGH, LOW])


def test_attributes_are_noisy_whole_scores_around_the_aspect() -> None:
    answer = Judged(gold=1.0, aspects=dict.fromkeys(ATTRIBUTES, 0.5))
    scores = [Attributes5(sigma=0.6).rate(f"a{i}", answer)["coherence"] for i in range(DRAWS)]
    assert set(scores) <= {0, 1, 2, 3, 4}
    assert mean(scores) == pytest.approx(2.0, abs=0.05)
    assert len(set(scores)) > 1


def test_an_edit_never_lowers_gold_and_usually_raises_it() -> None:
    gains = []
    for task in tasks("chat", "train", 60):
        text = WORLDS["chat"].write(task, Random(task.id), 0.2)
        repairs = WORLDS["chat"].repairs(task, text)
        edited = Edit().edit(text, repairs, value=lambda said, task=task: gold(task, said)[0])
        gains.append(gold(task, edited)[0] - gold(task, text)[0])
    assert min(gains) >= 0.0
    assert mean(gain > 0 for gain in gains) > 0.7


@pytest.mark.parametrize("annotator", [BT(tau=0.5), BT(tau=1.0, flip_p=0.1), BT(tau=0.5, length_bias=0.2), Likert4()])
def test_the_ceiling_is_what_simulation_finds(annotator: BT | Likert4) -> None:
    rng = Random(0)
    judged = [Judged(gold=rng.choice((0.0, 0.5, 1.0, 2.0)), length=rng.randint(5, 15)) for _ in range(DRAWS + 1)]
    pairs = list(pairwise(judged))
    right = [
        0.5 if a.gold == b.gold else float(annotator.compare(f"p{i}", a, b).first == (a.gold > b.gold))
        for i, (a, b) in enumerate(pairs)
    ]
    assert ceiling(annotator, pairs) == pytest.approx(mean(right), abs=FOUR_SIGMA)


def test_labelled_pairs_agree_with_gold_as_often_as_the_ceiling_says_and_identical_ones_are_counted() -> None:
    samples = []
    for task in tasks("chat", "train", 1500, seed=7):
        rng = Random(task.id)
        samples.append((task, WORLDS["chat"].write(task, rng, 0.4), WORLDS["chat"].write(task, rng, 0.4)))
    same = [(samples[0][0], "Cats.", " Cats.")]
    rows, left_out = label_pairs(samples + same, BT(tau=0.7))
    assert left_out == 1 + sum(a == b for _, a, b in samples)
    agree = mean(0.5 if r["gold_chosen"] == r["gold_rejected"] else r["gold_chosen"] > r["gold_rejected"] for r in rows)
    expected = mean(r["p_gold"] for r in rows)
    assert agree == pytest.approx(expected, abs=0.05)
    assert 0.6 < expected < 0.95


def test_a_pair_is_labelled_the_same_alone_or_among_others() -> None:
    rows = demonstrations("chat", "train", 6, skill=0.2)
    found = tasks("chat", "train", 6)
    told = [row["completion"][0]["content"] for row in rows]
    samples = [(task, text, "Cats love milk.") for task, text in zip(found, told, strict=True)]
    together, _ = label_pairs(samples, BT())
    alone = [label_pairs([sample], BT())[0][0] for sample in samples]
    assert together == alone


def test_an_annotator_almost_without_noise_ranks_by_gold_and_the_control_does_not() -> None:
    asked = tasks("chat", "train", 60)
    samples = [
        (task, [WORLDS["chat"].write(task, Random(f"{task.id}/{i}"), i / 3) for i in range(4)]) for task in asked
    ]
    rows = rank_answers(samples, KWise(k=4, tau=1e-6))
    assert all(sorted(row["ranks"]) == [1, 2, 3, 4] for row in rows)
    assert all([row["gold"][row["ranks"].index(r)] for r in (1, 2, 3, 4)] == sorted(row["gold"])[::-1] for row in rows)
    best = [row["ranks"].index(1) == row["gold"].index(max(row["gold"])) for row in shuffled_ranks(rows, seed=0)]
    assert 0.1 < mean(best) < 0.5
