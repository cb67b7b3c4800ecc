"""Methods in rounds: each is run on the embedded model, and is compared with the loss that one round of it is."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import whet
from whet.build.round_config import RoundConfig
from whet.build.rounds import told_of
from whet.data.config import DataConfig
from whet.errors import ConfigError, DataError, WhetError
from whet.launch import Run
from whet.models.config import ModelConfig
from whet.plan import of_recipe, placeholders
from whet.recipes.stage import MakeConfig
from whet.registry import Choice
from whet.rollout.selection.example import of_rewards
from whet.train.config import SourceConfig

ROUNDS = ("sdpo", "spin", "dno", "dno_prct", "sppo", "iterative_dpo", "gshf", "irpo", "rso", "rebel")
"""All of them; `whet run NAME` of those that are losses, too, is the recipe."""
DPO = {"spin", "iterative_dpo", "gshf", "dno_prct"}
"""Those whose loss begins at log 2."""
SMALL: dict[str, Any] = {"prompts": 6, "max_new_tokens": 8, "steps": 2, "batch": 4, "lr": 1e-3}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, given: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    return path


def first_losses(run: Run) -> list[float]:
    """The loss of each stage's first step."""
    return [row["policy/loss"] for row in run.rows("metrics") if row["step"] == 1]


def weights(folder: Path | str) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "model.safetensors")


def same_bits(a: Path | str, b: Path | str) -> bool:
    mine, theirs = weights(a), weights(b)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def numbers(run: Run, stage: int) -> dict[str, float]:
    return json.loads((run.stages[stage] / "done.json").read_text())["results"]["numbers"]


def of(name: str, folder: Path, **more: Any) -> Run:
    given = {"data": "lab:chat/train", "rounds": 1, **SMALL, **more}
    if name == "sdpo":
        given = {key: value for key, value in given.items() if key not in ("rounds", "prompts", "max_new_tokens")}
    if name == "rso":
        given.pop("rounds")
    asks = (
        [] if name == "sdpo" else ["answers"] if name == "rso" else [f"answers_{n + 1}" for n in range(given["rounds"])]
    )
    few = {f"{stage}.arguments.data.max_rows": 24 for stage in asks if given["data"] == "lab:chat/train"}
    return whet.run(name, model="lab:base", out=folder, **given, **few)


@pytest.mark.parametrize("name", sorted({*ROUNDS} - {"sdpo", "rso", "irpo"}))
def test_two_rounds_on_the_embedded_model(name: str, tmp_path: Path) -> None:
    """The second begins with, and is compared with, the model of the first; every answer and pair is counted."""
    group = {} if name == "spin" else {"group": 4 if name == "gshf" else 3}
    least = {"least": 0.0} if name == "dno_prct" else {}
    run = of(name, tmp_path / "run", rounds=2, **group, **least)
    assert [path.name[3:] for path in run.stages] == ["answers_1", "round_1", "answers_2", "round_2"]
    config = json.loads((run.stages[3] / "config.json").read_text())
    text = json.dumps(config)
    assert str(run.stages[1] / "final") in text and '"reference": null' in text
    if name in DPO:
        assert first_losses(run) == pytest.approx([math.log(2)] * 2, abs=1e-6)
    assert not same_bits(run.stages[1] / "final", run.stages[3] / "final")
    for stage in (0, 2):
        counted, made = numbers(run, stage), rows(run.stages[stage] / "pairs.jsonl")
        assert counted["prompts"] == 6 and counted["pairs"] == len(made) > 0
        asked = {row["id"].split("/")[0] for row in made}
        assert counted["without_pair"] == 6 - len(asked)
        per = {name: sum(row["weight"] for row in made if row["id"].startswith(name)) for name in asked}
        assert all(weight == pytest.approx(1.0) for weight in per.values()), "the pairs of a prompt share its weight"
        assert all(row["chosen_rating"] >= row["rejected_rating"] for row in made)
    first, second = (rows(run.stages[stage] / "pairs.jsonl") for stage in (0, 2))
    assert not {r["id"].split("/")[0] for r in first} & {r["id"].split("/")[0] for r in second}, "other prompts"


def test_right_answers_against_wrong_ones(tmp_path: Path) -> None:
    def odd(prompts, completions, **columns):
        return [float(len(c[0]["content"]) % 2) for c in completions]

    run = of("irpo", tmp_path / "run", reward=odd, group=8, pairs=3, prompts=4)
    made = rows(run.stages[0] / "pairs.jsonl")
    assert made and {(row["chosen_rating"], row["rejected_rating"]) for row in made} == {(1.0, 0.0)}
    assert max(sum(row["id"].startswith(r["id"].split("/")[0]) for row in made) for r in made) <= 3


def test_rejection_sampling_and_one_round(tmp_path: Path) -> None:
    run = of("rso", tmp_path / "run", reward="lab:chat", group=6, keep=4)
    assert [path.name[3:] for path in run.stages] == ["answers", "rso"]
    assert numbers(run, 0)["pairs"] > 6 and first_losses(run) == pytest.approx([1.0], abs=1e-6), "max(0, 1 − 0)"


def test_a_killed_run_goes_on_to_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the second round's answers: what is finished is kept, the stage begins anew."""
    import whet.build.rounds as made

    whole = of("iterative_dpo", tmp_path / "whole", rounds=2, group=3)
    real, calls = made.write_rows, []

    def killed(path, some):
        calls.append(path)
        if len(calls) == 4:  # the second file of the second round
            raise KeyboardInterrupt
        real(path, some)

    with monkeypatch.context() as patch:
        patch.setattr(made, "write_rows", killed)
        with pytest.raises(KeyboardInterrupt):
            of("iterative_dpo", tmp_path / "run", rounds=2, group=3)
    again = of("iterative_dpo", tmp_path / "run", rounds=2, group=3, resume=True)
    assert same_bits(whole.model, again.model)
    for stage in (0, 2):
        assert (whole.stages[stage] / "pairs.jsonl").read_text() == (again.stages[stage] / "pairs.jsonl").read_text()


def pairs_of(count: int = 12) -> list[dict[str, Any]]:
    def said(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    return [
        {
            "prompt": said("user", f"Tell me about boats, {i} ."),
            "chosen": said("assistant", f"Boats are fine, {i} ."),
            "rejected": said("assistant", f"No {i} ."),
            "margin": float(i % 5),
        }
        for i in range(count)
    ]


def test_sdpo_with_one_chunk_is_dpo(tmp_path: Path) -> None:
    data = write(tmp_path / "pairs.jsonl", pairs_of())
    whole = of("sdpo", tmp_path / "sdpo", data=data, chunks=1)
    keys = {"data.holdout": 0.0, "batch": 4, "optim.lr": 1e-3, "optim.schedule": "linear", "optim.warmup": 10}
    dpo = whet.run("dpo", model="lab:base", data=data, steps=2, out=tmp_path / "dpo", **keys)
    assert same_bits(whole.model, dpo.model)


@pytest.mark.parametrize("by", ["model", "margin", "given"])
def test_sdpo_goes_from_easy_to_hard(by: str, tmp_path: Path) -> None:
    """Each chunk begins at log 2, as its reference is where it begins; every pair is in one chunk."""
    given = pairs_of()
    run = of("sdpo", tmp_path / "run", data=write(tmp_path / "pairs.jsonl", given), chunks=3, by=by)
    assert first_losses(run) == pytest.approx([math.log(2)] * 3, abs=1e-6)
    found = [rows(run.stages[0] / f"chunk_{n}.jsonl") for n in (1, 2, 3)]
    assert [len(chunk) for chunk in found] == [4, 4, 4] and len({row["id"] for chunk in found for row in chunk}) == 12
    if by == "margin":
        least = [min(row["margin"] for row in chunk) for chunk in found]
        most = [max(row["margin"] for row in chunk) for chunk in found]
        assert least[0] >= most[1] and least[1] >= most[2]
    if by == "given":
        assert [row["chosen"] for chunk in found for row in chunk] == [row["chosen"] for row in given]
    if by == "model":
        counted = numbers(run, 0)
        assert counted["accuracy_1"] >= counted["accuracy_2"] >= counted["accuracy_3"]


def test_a_column_to_order_by_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pairs.jsonl:1 has no column 'margn' \(did you mean margin\?\) to order by"):
        of("sdpo", tmp_path / "run", data=write(tmp_path / "pairs.jsonl", pairs_of()), by="margn")


@pytest.mark.parametrize("name", ["spin", "dno_prct"])
def test_one_round_is_dpo_on_the_pairs_it_chose(name: str, tmp_path: Path) -> None:
    """SPIN's iteration 0 with its rejected answers, DNO-Prct's with its pairs: the same bits."""
    data = write(
        tmp_path / "shown.jsonl", [{k: row[k] for k in ("prompt", "chosen", "rejected")} for row in pairs_of()]
    )
    shown = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows(data)]
    more = {} if name == "spin" else {"prefer": longer, "group": 3, "least": 0.5}
    run = of(name, tmp_path / "run", data=shown, **more)
    made = run.stages[0] / "pairs.jsonl"
    own = {row["completion"][0]["content"] for row in shown}
    if name == "spin":
        assert all(row["chosen"][0]["content"] in own for row in rows(made))
        assert not any(row["rejected"][0]["content"] in own for row in rows(made))
    else:
        assert all(row["margin"] >= 0.5 for row in rows(made))
        said = [row[side][0]["content"] for row in rows(made) for side in ("chosen", "rejected")]
        assert own & set(said) and set(said) - own, "the teacher's and the model's"
    keys = {"data.holdout": 0.0, "batch": 4, "optim.lr": 1e-3}
    dpo = whet.run("dpo", model="lab:base", data=str(made), steps=2, out=tmp_path / "dpo", **keys)
    assert same_bits(run.model, dpo.model)


def test_what_cannot_be_learned_from_is_counted_and_left_out() -> None:
    """Of five answers one is empty, one nobody could judge, one was cut, and two say the same in other tokens."""
    texts, values = ["good", "bad", "", "strange", " bad"], [3.0, 1.0, 0.0, None, 2.0]
    group = of_rewards(*values)
    members = [
        (replace(one, text=text, stopped="length" if text == "good" else "stop"), score)
        for (one, score), text in zip(group.members, texts, strict=True)
    ]
    config = RoundConfig(
        model=ModelConfig(path="m"), data=DataConfig(path="d"), source=SourceConfig(group=5, select=Choice("all_pairs"))
    )
    told = told_of(config, replace(group, members=tuple(members)))
    assert told.counts == {"unscorable": 1, "empty": 1, "cut": 1, "same_text": 1}
    pairs = [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in told.pairs]
    assert pairs == [("good", "bad"), ("good", " bad")], "not ' bad' over 'bad'"
    row = told.pairs[0]
    assert (row["chosen_rating"], row["rejected_rating"], row["margin"], row["weight"]) == (3.0, 1.0, 2.0, 0.5)
    wins = [sum(1 / (1 + math.exp(other - mine)) for other in others) / 2 for mine, *others in ((3, 1, 2), (1, 3, 2))]
    assert [row["chosen_win_rate"], row["rejected_win_rate"]] == pytest.approx(wins), "against those that are judged"
    assert told.ranking is not None and told.ranking["scores"] == [3.0, 1.0, 2.0]


def longer(task, a, b) -> float:
    """A judge that likes length."""
    return 0.5 + 0.5 * (len(a) > len(b)) - 0.5 * (len(a) < len(b))


def test_the_price_of_a_token_turns_the_best_into_the_worst(tmp_path: Path) -> None:
    """Where length alone is liked, a high price for it prefers the shorter answer; win rates stay what they were."""
    free = of("iterative_dpo", tmp_path / "free", prefer=longer, group=4, max_new_tokens=24)
    dear = of("iterative_dpo", tmp_path / "dear", prefer=longer, group=4, max_new_tokens=24, length_penalty=9.0)

    def lengths(run: Run) -> list[tuple[int, int]]:
        made = rows(run.stages[0] / "pairs.jsonl")
        return [(len(row["chosen"][0]["content"]), len(row["rejected"][0]["content"])) for row in made]

    assert all(a > b for a, b in lengths(free))
    assert sum(a < b for a, b in lengths(dear)) > len(lengths(dear)) / 2
    made = rows(dear.stages[0] / "pairs.jsonl")
    assert all(0 <= row["chosen_win_rate"] <= 1 and row["chosen_rating"] < 0 for row in made)


def test_all_rounds_may_stay_close_to_the_first_model(tmp_path: Path) -> None:
    run = of("iterative_dpo", tmp_path / "run", rounds=2, group=3, reference="initial", lr=3e-3)
    config = json.loads((run.stages[3] / "config.json").read_text())
    assert '"path": "lab:base"' in json.dumps(config)
    first, second = first_losses(run)
    assert first == pytest.approx(math.log(2), abs=1e-6) and abs(second - math.log(2)) > 1e-4


@pytest.mark.parametrize("reference", ["previous", "initial"])
def test_an_adapter_goes_on_from_round_to_round(reference: str, tmp_path: Path) -> None:
    """The reference is the adapter of the round before, not the model without any, unless that is asked for."""
    pytest.importorskip("peft")
    run = of("iterative_dpo", tmp_path / "run", rounds=2, group=3, lr=3e-3, lora={"rank": 4}, reference=reference)
    first, second = first_losses(run)
    assert first == pytest.approx(math.log(2), abs=1e-6)
    assert (abs(second - math.log(2)) < 1e-6) == (reference == "previous")
    assert (run.model / "adapter_model.safetensors").is_file()


def test_data_that_the_judge_does_not_know_are_refused_before_they_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whet.build.rounds._answered", lambda *_: pytest.fail("answered"))
    data = write(tmp_path / "prompts.jsonl", [{"prompt": f"Tell me about boats, {i}."} for i in range(4)])
    with pytest.raises(DataError, match="compares only answers to tasks of its own world"):
        of("iterative_dpo", tmp_path / "run", data=data, prefer="lab:chat")


def test_temperatures_share_the_answers(tmp_path: Path) -> None:
    """Near 0 all answers of a temperature are the same; at 1 they are not."""
    run = of("gshf", tmp_path / "run", prefer=longer, group=4, temperatures=(1.0, 0.001))
    ranked = rows(run.stages[0] / "rankings.jsonl")
    assert all(2 <= len({r[0]["content"] for r in row["responses"]}) <= 3 for row in ranked)
    with pytest.raises(ConfigError, match="3 answers cannot be shared equally among 2 temperatures"):
        of("gshf", tmp_path / "odd", group=3)


def test_who_judges_is_asked_for_before_anything_is_done(tmp_path: Path) -> None:
    data = write(tmp_path / "prompts.jsonl", [{"prompt": f"Tell me about boats, {i}."} for i in range(4)])
    wrong: list[tuple[dict[str, Any], type[WhetError], str]] = [
        ({}, ConfigError, "nobody judges the answers"),
        ({"prefer": "a.py:f", "reward": "exact_match"}, ConfigError, "prefer and reward are both given"),
        ({"reward": "exact_mach"}, ConfigError, "exact_match"),
        ({"prefer": "nowhere.py:f"}, WhetError, "nowhere.py"),
    ]
    for more, kind, said in wrong:
        with pytest.raises(kind, match=said):
            of("iterative_dpo", tmp_path / "run", data=data, **more)
        assert not (tmp_path / "run").exists()


def test_a_round_without_a_difference_says_so(tmp_path: Path) -> None:
    def level(task, a, b) -> float:
        return 0.5

    with pytest.raises(DataError, match=r"round 1 of 1 has no pair to learn from \(prompts 6, without_pair 6, pairs 0"):
        of("iterative_dpo", tmp_path / "run", prefer=level, group=3)


@pytest.mark.parametrize("name", ROUNDS)
def test_the_stages_of_a_recipe_are_known_beforehand(name: str) -> None:
    given = ["model=m", "data=lab:chat/train"]
    params = placeholders(type_of(name), given)
    stages = [stage for stage, _ in of_recipe(name, params).preview()]
    assert isinstance(stages[0].config, MakeConfig) and not isinstance(stages[-1].config, MakeConfig)


def type_of(name: str) -> Any:
    from typing import get_type_hints

    from whet.recipes import recipe

    return get_type_hints(recipe.get(name))["params"]
