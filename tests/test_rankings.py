"""A ranking of K answers is one tree: each answer goes through the model once, and each prompt weighs the same."""

from __future__ import annotations

import json
import random
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from loop_cases import OPTIM, Case, drive, save_tiny_model
from tiny_tokenizer import tiny_tokenizer

from whet.batch import Tree, pack
from whet.build import data
from whet.build.terms import loss_terms
from whet.data.config import DataConfig
from whet.data.reads import Reads
from whet.errors import DataError
from whet.losses import preference_loss, reward_loss
from whet.losses.terms import Views
from whet.models.config import ModelConfig
from whet.models.policy import Decoder
from whet.registry import Choice
from whet.train.config import OptimConfig, RewardModelConfig
from whet.train.credit import token_column
from whet.train.learner import Learner
from whet.train.ranks import ALONE
from whet.train.step import update, with_weights

MODEL: Any = SimpleNamespace(
    tokenizer=tiny_tokenizer(template=None), stop_ids=(), config=SimpleNamespace(max_position_embeddings=64)
)
SHELVES = (preference_loss, reward_loss)


def grown(*rows: dict[str, Any], **more: Any) -> list[Tree]:
    objects = {"code:data": list(rows)}
    config = DataConfig(path="code:data", identical_limit=0.5)
    return data.trees(config, MODEL, objects, lambda found: None, kind="reward loss", **more)[0]


def ranked(prompt: str, *scores: float, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "responses": [chr(97 + i) for i in range(len(scores))], "scores": list(scores), **more}


def test_a_ranking_is_one_tree_with_every_pair_that_differs() -> None:
    three, tied = grown(ranked("P", 1, 3, 2), ranked("Q", 1, 1, 1, 5))
    assert [r.text for r in three.rollouts] == ["b", "c", "a"] and three.pairs == ((0, 1), (0, 2), (1, 2))
    assert three.pair["weight"] == pytest.approx([1 / 3] * 3)
    assert [r.text for r in tied.rollouts] == ["d", "a", "b", "c"] and tied.pairs == ((0, 1), (0, 2), (0, 3))
    assert tied.pair["weight"] == pytest.approx([1 / 3] * 3)
    batch = pack([three, tied])
    assert batch.rows == 7 and batch.tokens.tolist().count(three.rollouts[0].tokens[0]) == 1, "one prompt"


def test_a_prompts_own_weight_is_shared_by_its_pairs() -> None:
    first, second = grown(ranked("P", 2, 1, weight=3.0), ranked("Q", 3, 2, 1, weight=1.5))
    assert first.pair["weight"] == [3.0] and second.pair["weight"] == [0.5] * 3


def test_columns_of_the_data_stay_out_unless_the_loss_reads_them() -> None:
    own = {"margin": 0.5, "reference": 7.0, "step_row": 3.0, "weight/dpo": 9.0}
    assert grown(ranked("P", 2, 1, **own))[0].pair == {"weight": [1.0]}
    assert grown(ranked("P", 3, 2, 1, **own), reads=Reads(columns=("margin",)))[0].pair["margin"] == [0.5] * 3


def test_a_dataset_holds_pairs_or_rankings() -> None:
    pair = {"prompt": "P", "chosen": "a", "rejected": "b"}
    with pytest.raises(DataError, match="data:2 has no column 'responses'; it has prompt, chosen, rejected"):
        grown(ranked("P", 2, 1), pair)
    with pytest.raises(DataError, match="data:2 has no column 'chosen'; it has prompt, responses, scores"):
        grown(pair, ranked("P", 2, 1))


def test_the_loss_of_a_ranking_is_instructgpts() -> None:
    """Scores 2, 1, 0 give 0.251150; a second prompt of two answers with equal scores, log 2, counts as much."""
    (term,), _ = loss_terms(Choice("bradley_terry"), SHELVES)
    batch = with_weights(pack(grown(ranked("P", 3, 2, 1), ranked("Q", 2, 1))), [term], ALONE)
    scores = torch.tensor([2.0, 1.0, 0.0, 5.0, 5.0])
    values = term.values(Views(batch=batch, response={"score": scores}))
    loss = (batch.pair["weight/bradley_terry"] * values).sum().item()
    assert loss == pytest.approx((0.251150 + 0.693147) / 2, abs=1e-6)


def rankings(sizes: tuple[int, ...] = (4, 2, 3)) -> list[Tree]:
    """Random answers, best first, as the data makes them."""
    rng = random.Random(0)
    out = []
    for k in sizes:
        prompt, pairs = tiny.prompt(rng), tuple(combinations(range(k), 2))
        answers = [tiny.rollout(rng, prompt, rng.randint(1, 6)) for _ in range(k)]
        out.append(Tree(rollouts=answers, pairs=pairs, pair={"weight": [1 / len(pairs)] * len(pairs)}))
    return out


def apart(trees: list[Tree]) -> list[Tree]:
    """Every pair as a tree of its own, with its weight."""
    return [
        Tree(rollouts=[tree.rollouts[a], tree.rollouts[b]], pairs=[(0, 1)], pair={"weight": [weight]})
        for tree in trees
        for (a, b), weight in zip(tree.pairs, tree.pair["weight"], strict=True)
    ]


def gradients(loss: str, trees: list[Tree], *, budget: int = 10_000) -> dict[str, torch.Tensor]:
    terms, _ = loss_terms(Choice(loss), SHELVES)
    model, other = tiny.decoder(0, heads=("score",) if loss == "bradley_terry" else ()), tiny.decoder(1)
    learner = Learner.of(model, terms, OptimConfig(lr=0.0, clip=1e9), total=1)
    batch = pack(trees)
    column = token_column(other, batch, "logprobs", budget=budget).double()
    found = tiny.gradients_at_ticks(learner)
    update({"policy": learner}, batch.with_columns(token={"reference": column}), budget=budget, other=other)
    return found


@pytest.mark.parametrize("loss", ["bradley_terry", "dpo", "tdpo2", "orpo"])
@pytest.mark.parametrize("budget", [10_000, 1])
def test_one_tree_learns_what_its_pairs_learn_apart(loss: str, budget: int) -> None:
    whole, parts = gradients(loss, rankings(), budget=budget), gradients(loss, apart(rankings()))
    assert any(gradient.abs().max() > 1e-6 for gradient in whole.values())
    for name, gradient in whole.items():
        torch.testing.assert_close(gradient, parts[name], rtol=1e-5, atol=1e-7)


def test_a_naive_loop_over_prompts_and_pairs_has_the_same_gradient() -> None:
    model = tiny.decoder(0, heads=("score",))

    def score(rollout: Any) -> torch.Tensor:
        return model(pack([Tree(rollouts=[rollout])]), frozenset({"score"})).response["score"][0]

    trees = rankings()
    for tree in trees:
        pairs = list(combinations(tree.rollouts, 2))
        for better, worse in pairs:
            loss = -torch.nn.functional.logsigmoid(score(better) - score(worse))
            (loss / len(pairs) / len(trees)).backward()
    assert_same(model, gradients("bradley_terry", trees))


def assert_same(model: Decoder, found: dict[str, torch.Tensor]) -> None:
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-5, atol=1e-7)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "model"
    save_tiny_model(folder)
    return folder


def case(model: Path, rows: list[dict[str, Any]], **more: Any) -> Case:
    fields = {"model": ModelConfig(path=str(model)), "data": DataConfig(path="code:data", holdout=0.3), "batch": 2}
    return Case(config=RewardModelConfig(**{**fields, **more}, optim=OPTIM, epochs=3), objects={"code:data": rows})


def test_a_reward_model_is_fitted_to_rankings(model: Path, tmp_path: Path) -> None:
    made = case(model, [ranked(f"{i} ", 4, 3, 2, 1) for i in range(24)])
    drive(made, tmp_path / "run")
    place = tmp_path / "run" / "stages" / "01-loop"
    (measured,) = (json.loads(line) for line in (place / "evals.jsonl").read_text().splitlines())
    assert measured["eval/accuracy"] == 1.0, "the same order of letters everywhere is learned at once"


def test_a_column_that_the_loss_reads_is_missed_before_anything_is_learned(model: Path, tmp_path: Path) -> None:
    rows = [{"prompt": str(i), "chosen": "a", "rejected": "b", **({"margin": 1.0} if i != 2 else {})} for i in range(6)]
    made = case(model, rows, loss=Choice("bradley_terry", {"margin": 1.0}), data=DataConfig(path="code:data"))
    with pytest.raises(DataError, match="data:3 has no number in 'margin', which the loss reads"):
        drive(made, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("metrics.jsonl"))
