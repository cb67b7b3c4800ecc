"""The tables that compare methods of preference learning: a few small runs through every part of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import whet
from tests.paths import SHARED, need
from whet.build.asked import samples
from whet.build.check import check
from whet.build.round_config import SAMPLE_PAIRS, check_round
from whet.errors import ConfigError
from whet.lab.annotators import BT
from whet.lab.data import judged
from whet.lab.data import tasks as lab_tasks
from whet.lab.prefer import coin, verdict
from whet.plan import unrolled
from whet.recipes import online_methods
from whet.recipes.stage import MakeConfig
from whet.recipes.whole import stages_of

TABLES = ("lab_preferences", "lab_preferences_online", "real_preferences")


def test_methods_of_every_kind_are_compared_on_the_same_feedback(tmp_path: Path) -> None:
    """Pairs, single answers, rankings; the rate of the grid, three seeds and the control."""
    small = {"demonstrations": 64, "pairs": 12, "held": 6, "prompts": 5, "batch": 6, "rates": (1e-3,), "workers": 1}
    methods = ("dpo", "bco", "plackett_luce")
    run = whet.run("lab_preferences", methods=methods, out=tmp_path / "run", **small)
    rows = {row["stage"]: row for row in run.table}
    assert set(rows) == set(methods)
    for row in rows.values():
        assert row["win_rate"]["n"] == 5 and row["lr"] == 1e-3 and row["seeds"].count(",") == 2
        assert row["control"] is not None and {"kl", "gold", "chosen", "rejected", "length"} <= set(row)
    kept = sorted((tmp_path / "run/stages/03-compare/trials").glob("*.json"))
    assert len(kept) == 3 * (1 + 3 + 1) + 2, "DPO's control is run with every seed"
    assert len({json.loads(path.read_text())["key"] for path in kept}) == len(kept)


SETTING = {"model": "lab:base", "world": "chat", "batch": 4, "rounds": 1, "prompts": 4, "max_new_tokens": 8}


def test_methods_in_rounds_are_compared_from_one_model_with_one_judge(tmp_path: Path) -> None:
    """A whole recipe is one run; the control is a coin's, and SPIN, which nobody judges, has none."""
    small = {"demonstrations": 64, "prompts": 6, "rounds": 1, "held": 6, "judged": 5, "batch": 6, "rates": (1e-3,)}
    run = whet.run(
        "lab_preferences_online", methods=("iterative_dpo", "spin"), out=tmp_path / "run", workers=1, **small
    )
    rows = {row["stage"]: row for row in run.table}
    assert set(rows) == {"iterative_dpo", "spin"}
    for name, row in rows.items():
        assert row["win_rate"]["n"] == 5 and row["lr"] == 1e-3 and row["seeds"].count(",") == 2
        assert (row["control"] is None) == (name == "spin") and {"kl", "gold", "chosen", "length"} <= set(row)
    kept = sorted((tmp_path / "run/stages/03-compare/trials").glob("*.json"))
    assert len(kept) == 2 * (1 + 3) + 1
    assert all("prompts 6" in json.loads(path.read_text())["numbers"]["said"][0] for path in kept)


@pytest.mark.parametrize("control", [False, True])
@pytest.mark.parametrize("name", online_methods.names())
def test_every_method_of_the_second_table_can_be_run(name: str, control: bool, tmp_path: Path) -> None:
    """Its parameters are its recipe's, its loops pass every check, and the table's rate and batch arrive."""
    data = {"pairs": str(tmp_path / "a.jsonl"), "pairs_shuffled": str(tmp_path / "b.jsonl")}
    for path in data.values():
        Path(path).write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n")
    given = online_methods.given(name, data=data, rate=2e-3, seed=3, control=control, **SETTING)
    loops = 0
    for stage in unrolled(lambda: stages_of(name, given)):
        if isinstance(stage.config, MakeConfig):
            assert stage.config.arguments["seed"] == 3
            if stage.config.function == SAMPLE_PAIRS:
                check_round(stage.config.arguments, {})
            continue
        config = online_methods.altered(stage.config, rate=2e-3, batch=4)
        check(config, {})
        loops, asks = loops + 1, samples(config)
        assert config.optim.lr == 2e-3 and config.seed == 3 and (asks or config).model_dump()[PER_STEP[bool(asks)]] == 4
    assert loops == (2 if name == "sdpo" else 1)


PER_STEP = {True: "prompts", False: "batch"}
"""Where the batch is said, with and without answers of the policy."""


def test_a_verdict_is_drawn_once_with_the_annotators_probability() -> None:
    tasks = lab_tasks("chat", "train", 300, 0)
    texts = [(f"{task.prompt_text} yes .", "no .") for task in tasks]
    drawn = [verdict(task, a, b) or 0.0 for task, (a, b) in zip(tasks, texts, strict=True)]
    meant = [BT(tau=0.8).probability(judged(t, a), judged(t, b)) for t, (a, b) in zip(tasks, texts, strict=True)]
    assert set(drawn) == {0.0, 1.0} and abs(sum(drawn) - sum(meant)) < 3 * (0.25 * 300) ** 0.5
    assert [1.0 - (verdict(t, b, a) or 0.0) for t, (a, b) in zip(tasks, texts, strict=True)] == drawn
    tossed = [coin(task, a, b) for task, (a, b) in zip(tasks, texts, strict=True)]
    assert abs(sum(tossed) - 150) < 3 * (0.25 * 300) ** 0.5 and tossed != drawn


@pytest.mark.parametrize("subset", [pytest.param("harmless-base", marks=pytest.mark.slow), "summaries"])
def test_methods_are_compared_on_real_preferences(subset: str, tmp_path: Path) -> None:
    need("data/models/stories260K")
    need("data/hh-rlhf" if subset == "harmless-base" else "data/tldr-preferences")
    small = {"methods": ("dpo", "orpo"), "rates": (1e-3,), "max_rows": 24, "batch": 12, "workers": 1}
    run = whet.run("real_preferences", folder=str(SHARED / "data"), subset=subset, out=tmp_path / "run", **small)
    rows = {row["stage"]: row for row in run.table}
    assert set(rows) == {"length alone", "dpo", "orpo"}
    assert all(
        0 <= rows[name]["accuracy"]["value"] <= 1 and rows[name]["shuffled_accuracy"] for name in ("dpo", "orpo")
    )


def test_an_unknown_method_is_named_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no method 'dpoo' \(did you mean dpo\?\)"):
        whet.run("lab_preferences", methods=("dpoo",), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
