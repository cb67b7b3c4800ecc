"""Numbers of each answer, from a row's columns to what a loss reads of a batch, by every layout that has them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from loop_cases import OPTIM, STEPS, Case, drive, save_tiny_model
from tiny_tokenizer import tiny_tokenizer

from whet.batch import Tree, pack
from whet.build import data
from whet.build.terms import loss_terms, reads
from whet.data.config import DataConfig
from whet.data.dataset import demonstrations
from whet.data.rows import rows_of
from whet.errors import DataError
from whet.losses import offline_loss
from whet.losses.terms import Rankings, Responses, Views
from whet.models.config import ModelConfig
from whet.registry import Choice
from whet.train.config import OfflineConfig

MODEL: Any = SimpleNamespace(
    tokenizer=tiny_tokenizer(template=None), stop_ids=(), config=SimpleNamespace(max_position_embeddings=64)
)


def grown(loss: str, *rows: dict[str, Any], **options: Any) -> list[Tree]:
    """The trees that a loss with these options learns from."""
    choice, objects = Choice(loss, options), {"code:data": list(rows)}
    config = DataConfig(path="code:data", identical_limit=0.5)
    kind, wanted = offline_loss.shelf_of(loss).kind, reads([choice], offline_loss.shelves)
    return data.trees(config, MODEL, objects, lambda found: None, kind=kind, reads=wanted)[0]


def seen(loss: str, *rows: dict[str, Any], **options: Any) -> tuple[Responses | Rankings, ...]:
    """What the loss's function is given."""
    batch = pack(grown(loss, *rows, **options))
    (term,), _ = loss_terms(Choice(loss, options), offline_loss.shelves)
    nothing = torch.zeros(batch.counted.numel())
    batch = batch.with_columns(token={"reference": nothing})
    return term.inputs(Views(batch=batch, token={"logprobs": nothing, "value": nothing}))


def pair(prompt: str = "P", **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": "a", "rejected": "bb", **more}


def ranked(**more: Any) -> dict[str, Any]:
    return {"prompt": "P", "responses": ["a", "bb", "ccc"], **more}


# --- pairs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        *[(f"chosen_{name}", f"rejected_{name}") for name in ("rating", "score", "reward")],
        *[(f"{name}_chosen", f"{name}_rejected") for name in ("rating", "score", "reward")],
    ],
    ids=lambda names: names[0],
)
@pytest.mark.parametrize("loss", ["rpo", "rebel"])
def test_a_pairs_ratings(loss: str, names: tuple[str, str]) -> None:
    rows = [pair("P", **dict(zip(names, (4, 1.5), strict=True))), pair("Q", **dict(zip(names, ("3", -1), strict=True)))]
    chosen, rejected = seen(loss, *rows)
    assert chosen.column("rating").tolist() == [4.0, 3.0] and rejected.column("rating").tolist() == [1.5, -1.0]


@pytest.mark.parametrize(
    ("loss", "column"),
    [("sppo", "win_rate"), ("dno", "win_rate"), ("modpo", "margin_reward"), ("xpo", "from_reference")],
)
def test_a_pairs_other_numbers(loss: str, column: str) -> None:
    chosen, rejected = seen(loss, pair(**{f"chosen_{column}": 1, f"rejected_{column}": 0.25}))
    assert (chosen.column(column).item(), rejected.column(column).item()) == (1.0, 0.25)


def test_numbers_that_no_option_asks_for_stay_out() -> None:
    row = pair(chosen_win_rate=0.9, rejected_win_rate=0.1, chosen_rating=2, rejected_rating=1)
    for loss, options in (
        ("sppo", {"win_rates": False}),
        ("dno", {"soft": False}),
        ("xpo", {"alpha": 0.0}),
        ("dpo", {}),
    ):
        assert dict(grown(loss, row, **options)[0].response) == {}
        assert dict(grown(loss, pair(), **options)[0].response) == {}, "nor are they missed"


def test_ratings_need_not_agree_with_who_was_chosen() -> None:
    """A pair's order is its own: REBEL regresses on ratings, whichever way they go."""
    chosen, rejected = seen("rebel", pair(chosen_rating=1, rejected_rating=2))
    assert (chosen.column("rating") - rejected.column("rating")).item() == -1.0


# --- rankings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rating", "ratings", "score", "reward", "rewards"])
def test_a_rankings_ratings_follow_its_answers(name: str) -> None:
    """Answers stand best first in a tree; their numbers go with them, into every pair."""
    (tree,) = grown("rpo", ranked(ranks=[2, 3, 1], **{name: [5, 4, 6]}))
    assert [rollout.text for rollout in tree.rollouts] == ["ccc", "a", "bb"]
    assert tuple(tree.response["rating"]) == (6.0, 5.0, 4.0)
    chosen, rejected = seen("rpo", ranked(ranks=[2, 3, 1], **{name: [5, 4, 6]}))
    assert chosen.column("rating").tolist() == [6.0, 6.0, 5.0] and rejected.column("rating").tolist() == [5.0, 4.0, 4.0]


def test_scores_of_a_ranking_are_ratings_and_ranks_are_none() -> None:
    chosen, _ = seen("rpo", ranked(scores=[1, 2, 4]))
    assert chosen.column("rating").tolist() == [4.0, 4.0, 2.0]
    with pytest.raises(DataError, match="data:1 has no rating of each answer, which the loss reads: give rating, or"):
        grown("rpo", ranked(ranks=[3, 2, 1]))


def test_a_list_of_another_length_is_named() -> None:
    with pytest.raises(DataError, match="data:1 has 3 responses and 2 win_rates"):
        grown("sppo", ranked(scores=[3, 2, 1], win_rates=[0.9, 0.1]))
    with pytest.raises(DataError, match="data:1 has 'win_rate' of type float, not a list"):
        grown("sppo", ranked(scores=[3, 2, 1], win_rate=0.9))


# --- what is missing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        pair("Q"),
        pair("Q", chosen_rating=1),
        pair("Q", chosen_rating=1, rejected_rating=None),
        pair("Q", chosen_rating=1, rejected_score=2),
    ],
)
def test_a_pair_without_ratings_is_named_with_what_would_do(row: dict[str, Any]) -> None:
    said = r"data:2 has no rating of each answer, which the loss reads: give chosen_rating and rejected_rating, or "
    with pytest.raises(DataError, match=said):
        grown("rebel", pair(chosen_rating=2, rejected_rating=1), row)


@pytest.mark.parametrize(
    ("value", "said"), [("good", "'good' in 'rejected_rating', which is no number"), (float("nan"), "is not finite")]
)
def test_what_is_no_number_is_named(value: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        grown("rebel", pair(chosen_rating=2, rejected_rating=value))


@pytest.mark.parametrize("value", [90, -0.1])
def test_a_win_rate_in_percent_is_named(value: float) -> None:
    row = pair(chosen_win_rate=0.5, rejected_win_rate=value)
    with pytest.raises(DataError, match=f"data:1 has {value:g} in 'rejected_win_rate', which is between 0 and 1"):
        grown("sppo", row)
    assert len(grown("sppo", row, win_rates=False)) == 1


# --- single answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rating", "score", "reward"])
def test_dro_learns_from_answers_with_a_rating(name: str) -> None:
    rows = [{"prompt": p, "completion": "a", name: value} for p, value in (("P", 1.5), ("Q", -2))]
    (responses,) = seen("dro", *rows)
    assert responses.column("rating").tolist() == [1.5, -2.0]


def test_dro_learns_from_the_answers_of_pairs_rankings_and_labels() -> None:
    (pairs,) = seen("dro", pair(chosen_rating=2, rejected_rating=1))
    assert pairs.column("rating").tolist() == [2.0, 1.0]
    (answers,) = seen("dro", ranked(scores=[1, 3, 2]))
    assert answers.column("rating").tolist() == [1.0, 3.0, 2.0]
    (labelled,) = seen("dro", {"prompt": "P", "completion": "a", "label": 1, "reward": 0.5})
    assert labelled.column("rating").tolist() == [0.5]


def test_dro_of_a_row_without_a_rating_is_named() -> None:
    rated = {"prompt": "P", "completion": "a", "rating": 1}
    with pytest.raises(
        DataError, match="data:2 has no rating of each answer, which the loss reads: give rating, or sc"
    ):
        grown("dro", rated, {"prompt": "Q", "completion": "b", "rating": None})
    with pytest.raises(
        DataError, match="data:1 has no rating of each answer, which the loss reads: give rating, or sc"
    ):
        grown("dro", {"prompt": "P", "completion": "a"})


@pytest.mark.parametrize("name", ["rating", "score", "reward"])
def test_rated_answers_are_demonstrations_too(name: str) -> None:
    """What is scored can be imitated: the number stays out."""
    row = {"prompt": "P", "completion": "abc", name: 0.1}
    made, report = demonstrations(rows_of([row]), data.renderer_of(MODEL), config=DataConfig(path="d"))
    assert [rollout.text for rollout in made] == ["abc"] and report.detected.kind == "rating"


# --- a whole loop ---------------------------------------------------------------------------------------------------


def test_a_missing_rating_is_said_before_anything_is_learned(tmp_path: Any) -> None:
    save_tiny_model(tmp_path / "model")
    rows = [pair(f"{i} ", chosen_rating=2 + i % 3, rejected_rating=1) for i in range(16)]
    fields: dict[str, Any] = {
        "model": ModelConfig(path=str(tmp_path / "model")),
        "data": DataConfig(path="code:data", identical_limit=1),
        "optim": OPTIM,
        "batch": 4,
        "steps": STEPS,
        "loss": Choice("rebel"),
    }
    drive(Case(config=OfflineConfig(**fields), objects={"code:data": rows}), tmp_path / "run")
    assert list((tmp_path / "run").rglob("done.json"))
    broken = [{**row, "rejected_rating": None} if i == 5 else row for i, row in enumerate(rows)]
    with pytest.raises(DataError, match="data:6 has no rating of each answer"):
        drive(Case(config=OfflineConfig(**fields), objects={"code:data": broken}), tmp_path / "broken")
    assert not list((tmp_path / "broken").rglob("metrics.jsonl"))
