"""Where a run stands in its data is a function of the step; sides of a split and mismatched prompts are exact."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.data.mismatch import mismatched, retarget
from whet.data.order import Cursor, permutation
from whet.data.rows import Row
from whet.data.splits import opening, overlap, split_rows
from whet.errors import DataError
from whet.types import Rating, Rollout


def row(line: int, **columns: object) -> Row:
    return Row(columns=columns, file="f", line=line)


@settings(max_examples=50)
@given(n=st.integers(1, 40), batch=st.integers(1, 50), seed=st.integers(0, 5))
def test_every_item_is_seen_once_an_epoch_whatever_the_batch(n: int, batch: int, seed: int) -> None:
    cursor = Cursor(n=n, batch=batch, seed=seed)
    draws = [draw for step in range(3 * n // batch + 2) for draw in cursor.draws_at(step)]
    for epoch in range(3):
        assert sorted(item for item, of in draws if of == epoch) == list(range(n))


def test_a_step_is_the_same_whether_or_not_others_were_asked_before() -> None:
    straight = [Cursor(n=10, batch=4, seed=3).batch_at(step) for step in range(20)]
    assert Cursor(n=10, batch=4, seed=3).batch_at(17) == straight[17]


def test_seeds_and_epochs_give_other_orders_and_the_order_is_fixed_for_ever() -> None:
    orders = [tuple(permutation(20, seed=s, epoch=e)) for s in range(3) for e in range(3)]
    assert len(set(orders)) == 9
    assert permutation(8, seed=0, epoch=0) == [5, 4, 0, 3, 7, 6, 2, 1]


def test_permutations_are_even() -> None:
    firsts = [permutation(5, seed=seed, epoch=0)[0] for seed in range(2000)]
    assert all(abs(firsts.count(i) - 400) < 80 for i in range(5))


def test_steps_cover_the_epochs() -> None:
    cursor = Cursor(n=10, batch=4, seed=0)
    assert cursor.steps_in(2.0) == 5 and cursor.epoch_at(5) == 2.0 and cursor.steps_in(1.0) == 3


def test_a_split_does_not_depend_on_order_or_on_other_rows() -> None:
    rows = [row(i, prompt=f"question {i}", completion="A") for i in range(300)]
    _, held = split_rows(rows, holdout=0.2, seed=0)
    shuffled = random.Random(0).sample(rows, 200)
    assert {r.line for r in split_rows(shuffled, holdout=0.2, seed=0)[1]} == {r.line for r in held if r in shuffled}
    assert 40 < len(held) < 80
    assert [r.line for r in split_rows(rows, holdout=0.2, seed=1)[1]] != [r.line for r in held]


def test_rows_of_one_dialogue_fall_on_one_side() -> None:
    talk = "\n\nHuman: {}\n\nAssistant: {}"
    rows = [
        row(3 * i + k, chosen=talk.format(i, k) + talk.format("more", k) * k, rejected="")
        for i in range(50)
        for k in range(3)
    ]
    train, held = split_rows(rows, holdout=0.5, seed=0)
    assert not {opening(r) for r in train} & {opening(r) for r in held}
    assert overlap(train, held).count == 0


def test_a_side_without_rows_is_an_error() -> None:
    with pytest.raises(DataError, match=r"data\.holdout=0\.5 of 1 rows leaves none"):
        split_rows([row(1, prompt="a")], holdout=0.5, seed=0)
    assert split_rows([row(1, prompt="a")], holdout=0.0, seed=0)[1] == []


@pytest.mark.parametrize(
    "columns",
    [
        {"prompt": "Hi"},
        {"prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}]},
        {"messages": [{"role": "user", "content": "Hi"}]},
        {"conversations": [{"from": "human", "value": "Hi"}]},
        {"question": "Hi", "answer": "5"},
        {"chosen": "\n\nHuman: Hi\n\nAssistant: A", "rejected": "x"},
        {"prompt": "\n\nHuman: Hi\n\nAssistant:", "chosen": "A"},
    ],
)
def test_the_opening_of_every_layout(columns: dict[str, object]) -> None:
    assert opening(row(1, **columns)) == "Hi"


def test_prompts_on_both_sides_are_counted_with_their_places() -> None:
    found = overlap([row(1, prompt="a"), row(2, prompt="b")], [row(3, prompt="b"), row(4, prompt="c")])
    assert (found.count, found.of) == (1, 2)
    assert str(found) == "1 of 2 test prompts are also trained on (first: f:3 is f:2)"


def rating(name: str, prompt: tuple[int, ...], answer: tuple[int, ...]) -> Rating:
    tokens = prompt + answer
    mask = (False,) * len(prompt) + (True,) * len(answer)
    source = ("prompt",) * len(prompt) + ("sampled",) * len(answer)
    return Rating(id=name, rollout=Rollout(task_id=name, tokens=tokens, mask=mask, source=source))  # type: ignore[arg-type]


def test_mismatched_answers_stand_behind_the_next_prompt() -> None:
    ratings = [rating("a", (1,), (7, 8)), rating("b", (2, 3), (9,)), rating("c", (4,), (5,))]
    moved, cut = mismatched(ratings)
    assert [m.tokens for m in moved] == [(2, 3, 7, 8), (4, 9), (1, 5)]
    assert [m.task_id for m in moved] == ["b", "c", "a"]
    assert [m.response for m in moved] == [r.rollout.response for r in ratings] and cut == 0


@settings(max_examples=100)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=12).filter(lambda x: len(set(x)) > 1))
def test_no_answer_is_matched_however_prompts_repeat(prompts: list[int]) -> None:
    ratings = [rating(f"t{i}", (10 + p,), (i,)) for i, p in enumerate(prompts)]
    for given_, moved in zip(ratings, mismatched(ratings)[0], strict=True):
        assert moved.prompt != given_.rollout.prompt and moved.response == given_.rollout.response


@pytest.mark.parametrize(("limit", "moved", "cut"), [(5, (4, 5, 6, 8, 9), 0), (4, (5, 6, 8, 9), 1), (3, (6, 8, 9), 1)])
def test_a_mismatched_prompt_is_cut_to_what_fits(limit: int, moved: tuple[int, ...], cut: int) -> None:
    ratings = [rating("a", (1,), (8, 9)), rating("b", (4, 5, 6), (7,))]
    twins, found = mismatched(ratings, limit=limit)
    assert [twin.tokens for twin in twins] == [moved, (1, 7)] and found == cut
    assert all(twin.response == one.rollout.response for one, twin in zip(ratings, twins, strict=True))


def test_one_prompt_alone_cannot_be_mismatched() -> None:
    with pytest.raises(DataError, match=r"the 2 rated answers are all to one prompt.* at least two prompts"):
        mismatched([rating("a", (1,), (2,)), rating("b", (1,), (3,))])


def test_retargeting_keeps_gaps_in_what_counts() -> None:
    rollout = Rollout(
        task_id="a",
        tokens=(1, 2, 3, 4),
        mask=(False, True, False, True),
        source=("prompt", "sampled", "tool", "sampled"),
    )
    moved = retarget(rollout, (8, 9), task_id="b")
    assert moved.tokens == (8, 9, 2, 3, 4) and moved.mask == (False, False, True, False, True)
    assert moved.source == ("prompt", "prompt", "sampled", "tool", "sampled")


def test_an_epochs_order_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many steps it has, in whatever order they are asked for."""
    made: list[int] = []

    def counted(n: int, *, seed: int, epoch: int) -> list[int]:
        made.append(epoch)
        return permutation(n, seed=seed, epoch=epoch)

    monkeypatch.setattr("whet.data.order.permutation", counted)
    cursor = Cursor(n=10, batch=3, seed=0)
    seen = [cursor.draws_at(step) for step in range(12)]
    assert made == [0, 1, 2, 3]
    assert [Cursor(n=10, batch=3, seed=0).draws_at(step) for step in reversed(range(12))] == seen[::-1]
    assert cursor.draws_at(0) == seen[0]
