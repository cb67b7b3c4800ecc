"""Whole runs of losses over rankings and single answers, and the data and sums of losses that they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from loop_cases import OPTIM, Case, drive, save_tiny_model
from test_rankings import MODEL

import whet
from whet.batch import Tree, pack
from whet.build import data
from whet.build.check import HELD_OUT, check
from whet.build.terms import loss_terms, offline_terms, per_undesirable, reads
from whet.data.config import DataConfig
from whet.errors import ConfigError, DataError
from whet.losses import offline_loss
from whet.losses.rating.bco import bco
from whet.losses.terms import Responses
from whet.models.config import ModelConfig
from whet.registry import Choice
from whet.rundir import RunDir
from whet.train.config import OfflineConfig, PlusConfig
from whet.train.ranks import ALONE
from whet.train.step import with_weights


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks") / "model"
    save_tiny_model(folder)
    return folder


def ranked(number: int) -> dict[str, Any]:
    """Two to four answers, the first two tied where there are more; earlier letters are better everywhere."""
    size = 2 + number % 3
    scores = [1.0, 1.0, 0.0, -1.0] if size > 2 else [1.0, -1.0]
    return {"prompt": f"{number} ", "responses": [chr(97 + i) for i in range(size)], "scores": scores[:size]}


RANKED = [ranked(number) for number in range(24)]
RATED = [
    {"prompt": f"{number} ", "completion": "ab"[number % 2], "rating": float(1 - number % 2)} for number in range(24)
]


def config(model: Path | str, path: str, loss: Choice, *plus: tuple[str, float], **more: Any) -> OfflineConfig:
    return OfflineConfig(
        model=ModelConfig(path=str(model)),
        data=DataConfig(path=path, holdout=0.25),
        loss=loss,
        plus=tuple(PlusConfig(loss=Choice(name), coef=coef) for name, coef in plus),
        **{"optim": OPTIM, "batch": 4, "epochs": 4, "token_budget": 60, **more},
    )


def numbers(root: Path, made: OfflineConfig, objects: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(the metrics of every step, the held-out numbers at the end) of a run."""
    drive(Case(config=made, objects=objects), root)
    run = RunDir.open(root / "stages" / "01-loop")
    return list(run.rows("metrics")), list(run.rows("evals"))[-1]


def fallen(steps: list[dict[str, Any]], name: str, *, by: float) -> bool:
    """Whether a loss is below this share of what it was, over the last and the first four steps."""
    first, last = (sum(row[name] for row in some) for some in (steps[:4], steps[-4:]))
    return last < by * first


def test_a_file_of_rankings_with_ties_is_learned_as_a_whole(model: Path, tmp_path: Path) -> None:
    place = tmp_path / "ranked.jsonl"
    place.write_text("".join(json.dumps(row) + "\n" for row in RANKED))
    made = config(model, str(place), Choice("info_nca", {"alpha": 0.3, "beta": 0.5}))
    steps, held = numbers(tmp_path / "run", made, {})
    assert {key.removeprefix("eval/") for key in held if key.startswith("eval/")} == {*HELD_OUT["ranking loss"]}
    assert held["eval/rewards/accuracies"] > 0.8, "the order of letters is the same everywhere"
    assert fallen(steps, "loss/info_nca", by=0.8)


def test_single_ratings_are_learned_with_a_value_head(model: Path, tmp_path: Path) -> None:
    made = config(model, "code:data", Choice("dro"), epochs=8)
    steps, held = numbers(tmp_path / "run", made, {"code:data": RATED})
    assert fallen(steps, "loss/dro", by=0.5)
    assert {key.removeprefix("eval/") for key in held if key.startswith("eval/")} == {
        *HELD_OUT["rating loss without labels"]
    }


def test_a_sum_with_the_best_answers_likelihood_raises_it(model: Path, tmp_path: Path) -> None:
    found = {}
    for name, plus in {"alone": (), "sum": (("nll", 0.2), ("dpo", 0.5))}.items():
        made = config(model, "code:data", Choice("plackett_luce"), *plus, epochs=2)
        found[name], _ = numbers(tmp_path / name, made, {"code:data": RANKED})
    alone, both = found["alone"], found["sum"]
    assert {"loss/plackett_luce", "loss/nll", "loss/dpo"} <= both[0].keys()
    first = both[0]
    assert first["policy/loss"] == pytest.approx(
        first["loss/plackett_luce"] + 0.2 * first["loss/nll"] + 0.5 * first["loss/dpo"]
    )
    assert both[-1]["logps/chosen"] > alone[-1]["logps/chosen"]


def test_a_sum_is_given_from_python_as_in_yaml(model: Path, tmp_path: Path) -> None:
    """A list of mappings is rows only where data is asked for."""
    rows = [{"prompt": f"{i} ", "chosen": "a", "rejected": "b"} for i in range(8)]
    plus = [{"loss": "nll", "coef": 0.2}]
    keys = {"data.holdout": 0.0, "steps": 1}
    run = whet.run("offline", model=str(model), data=rows, loss="simpo", plus=plus, out=tmp_path / "run", **keys)
    assert {"loss/simpo", "loss/nll"} <= next(iter(run.rows("metrics"))).keys()


# --- what cannot be added ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "plus", "said"),
    [
        ("dpo", (("info_nca", 1.0),), "info_nca, which gives one number per whole ranking, and dpo one per pair"),
        ("info_nca", (("npo", 1.0),), "npo, which gives one number per single answer, and info_nca one per whole"),
        ("nca", (("nca", 1.0),), "nca, which is in the sum already: give it one coef"),
        ("npo", (("nll", 1.0), ("nll", 1.0)), "nll, which is in the sum already"),
        ("dro", (("nll", 0.2),), "nll, the likelihood of desirable answers, but dro reads no labels"),
        ("nash_md", (("entropy_bonus", 0.2),), "entropy_bonus, which is no likelihood"),
    ],
)
def test_sums_that_make_no_sense(loss: str, plus: tuple[tuple[str, float], ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check(config("code:model", "code:data", Choice(loss), *plus), {"code:model": None, "code:data": []})


def test_a_coefficient_with_nothing_added() -> None:
    with pytest.raises(ConfigError, match="coef is 2, but nothing is added to pro: scale"):
        check(config("code:model", "code:data", Choice("pro"), coef=2.0), {"code:model": None, "code:data": []})


# --- what the data must have ------------------------------------------------------------------------------------------


def grown(kind: str, rows: list[dict[str, Any]], loss: str, *plus: str, **options: Any) -> list[Tree]:
    found = reads([Choice(loss, options), *map(Choice, plus)], offline_loss.shelves)
    made = DataConfig(path="code:data", identical_limit=0.5)
    return data.trees(made, MODEL, {"code:data": rows}, lambda found: None, kind=f"{kind} loss", reads=found)[0]


def labelled(*labels: int) -> list[dict[str, Any]]:
    return [{"prompt": f"{i}", "completion": "a", "label": label} for i, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("loss", "plus", "labels", "said"),
    [
        ("kto", (), (0, 0, 0), r"all 3 answers to learn from are labelled undesirable \(0\), and this loss needs"),
        (
            "kto",
            (),
            (1, 1),
            r"all 2 answers to learn from are labelled desirable \(1\), and this loss needs undesirable",
        ),
        ("bco", (), (0, 0), "needs desirable ones"),
        ("npo", (), (1, 1), "needs undesirable ones"),
        ("npo", ("nll",), (0, 0), "needs desirable ones"),
        ("npo", (), (0, 0), None),
        ("npo", ("nll",), (0, 1), None),
        ("kto", (), (0, 1), None),
    ],
)
def test_labels_of_one_kind(loss: str, plus: tuple[str, ...], labels: tuple[int, ...], said: str | None) -> None:
    if said is None:
        assert len(grown("rating", labelled(*labels), loss, *plus)) == len(labels)
        return
    with pytest.raises(DataError, match=said):
        grown("rating", labelled(*labels), loss, *plus)


def test_held_out_answers_may_be_of_one_label() -> None:
    made = DataConfig(path="code:data")
    learned, held = data.trees(
        made,
        MODEL,
        {"code:data": labelled(0, 1), "code:held": labelled(1)},
        lambda found: None,
        kind="rating loss",
        reads=reads([Choice("npo"), Choice("nll")], offline_loss.shelves),
        held=DataConfig(path="code:held"),
    )
    assert (len(learned), len(held)) == (2, 1)


def test_a_ranking_of_one_is_refused() -> None:
    one = {"prompt": "P", "responses": ["a"], "scores": [1.0]}
    with pytest.raises(DataError, match="data:2 has fewer than two responses to rank"):
        grown("ranking", [RANKED[0], one], "plackett_luce")


def test_losses_of_magnitudes_need_ratings_and_those_of_order_do_not() -> None:
    by_rank = {"prompt": "P", "responses": ["a", "b", "c"], "ranks": [2, 1, 3]}
    for name in ("info_nca", "nca", "exo", "pro"):
        with pytest.raises(DataError, match="has no rating of each answer, which the loss reads"):
            grown("ranking", [by_rank], name)
    for name, options in {
        "info_nca": {"alpha": 0.0},
        "nca": {"alpha": 0.0},
        "exo": {"beta_r": 0.0},
        "rrhf": {},
    }.items():
        (tree,) = grown("ranking", [by_rank], name, **options)
        assert tree.response["rating"] == (-1.0, -2.0, -3.0) and [r.text for r in tree.rollouts] == ["b", "a", "c"]


def test_d2o_needs_both_sides() -> None:
    rows = [{"prompt": "P", "chosen": "a", "rejected": "b"}]
    assert grown("ranking", rows, "d2o")[0].response["rating"] == (1.0, 0.0), "of a pair one is the sample"
    for numbers in ({"ranks": [1, 2]}, {"scores": [4, 3]}):
        row = {"prompt": "P", "responses": ["a", "b"], **numbers}
        with pytest.raises(DataError, match=r"has no rating above 0 \(a sample\) beside one of 0 or less"):
            grown("ranking", [row], "d2o")
    of_both = {"prompt": "P", "responses": ["a", "b"], "scores": [1, 0], "ratings": [4, 3]}
    with pytest.raises(DataError, match="has no rating above 0"):  # the sum has one rating, that of the column
        grown("ranking", [of_both], "d2o", "pro")


def test_a_rating_of_another_name_is_a_column_like_any() -> None:
    row = {"prompt": "P", "completion": "a", "win_rate": 0.75}
    assert grown("rating", [row], "nash_md")[0].response["win_rate"] == [0.75]
    with pytest.raises(DataError, match="has no win_rate of each answer, which the loss reads: give win_rate"):
        grown("rating", [{"prompt": "P", "completion": "a"}], "nash_md")


# --- what a step averages over ----------------------------------------------------------------------------------------


def test_npo_averages_over_what_is_to_be_forgotten_and_nll_over_what_is_kept() -> None:
    """The authors' grad_diff: two means, whatever the number of each; mismatched rows are in neither."""
    made = OfflineConfig(
        model=ModelConfig(path="m"),
        data=DataConfig(path="d"),
        loss=Choice("npo"),
        plus=(PlusConfig(loss=Choice("nll"), coef=1.0),),
    )
    found, looks = offline_terms(made, offline_loss.shelves)
    batch = with_weights(pack(tiny.rating_trees(n=5)), found, ALONE)
    forget = (batch.response["label"] == 0) & (batch.response["mismatched"] == 0)
    assert looks and int(forget.sum()) == 3
    torch.testing.assert_close(batch.response["weight/npo"], forget / 3.0)
    kept = batch.token["weight/nll"]
    assert kept.sum().item() == pytest.approx(1.0) and bool((batch.response["label"][batch.row[kept > 0]] == 1).all())


def test_bcos_means_are_of_answers_to_their_own_prompts() -> None:
    """In a sum with KTO, whose rows behind other prompts are no answers that were labelled."""
    batch = pack(tiny.rating_trees(n=5))
    twin = batch.response["mismatched"] > 0
    ratio = torch.randn(batch.rows, dtype=torch.float64)
    every = Responses(length=torch.ones(batch.rows), policy=ratio, anchor=torch.zeros(batch.rows), col=batch.response)
    values, carried = bco(every)
    alone, expected = bco(every.take((~twin).nonzero()[:, 0]))
    torch.testing.assert_close(values[~twin], alone)
    assert not values[twin].any() and carried["counts"].sum() == 5
    for name, number in expected.items():
        torch.testing.assert_close(carried[name], number)


@pytest.mark.parametrize("loss", ["kto", "npo", "dro"])
def test_a_rows_own_weight_is_its_share_of_the_step(loss: str) -> None:
    rows = [
        {"prompt": f"{i}", "completion": "a", "label": 0 if i else 1, "rating": 1.0, "weight": weight}
        for i, weight in enumerate((0.25, 1.0, 3.0))
    ]
    (term,), _ = loss_terms(Choice(loss), offline_loss.shelves)
    found = term.weigh(pack(grown("rating", rows, loss)))
    expected = torch.tensor([0.0 if loss == "npo" else 0.25, 1.0, 3.0])
    own = found[::2] if loss == "kto" else found  # each answer has its twin behind it
    torch.testing.assert_close(own, expected / expected.sum())
    assert found.sum().item() == pytest.approx(1.0)
    del rows[1]["weight"]
    with pytest.raises(DataError, match="1 of 3 rows have no 'weight'"):
        grown("rating", rows, loss)


def test_a_step_without_anything_to_forget_weighs_nothing() -> None:
    only = [tree for tree in tiny.rating_trees(n=4) if tree.response["label"][0] == 1]
    assert per_undesirable(pack(only)).tolist() == [0.0] * 4
    (term,), _ = loss_terms(Choice("kto"), offline_loss.shelves)
    assert term.weigh is not per_undesirable
