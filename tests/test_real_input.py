"""The recipes on real weights and real human data: two steps of each, and (slow) what each claims."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean, stdev

import pytest

import whet
from tests.paths import SHARED, need
from whet.data.config import DataConfig
from whet.data.readers import read_rows
from whet.errors import WhetError
from whet.lab import real
from whet.launch import Run
from whet.types import Pair, Rollout

NEEDED = {
    "babyllama_sft": ("data/models/babyllama-tok105", "data/tinystories-sample"),
    "hh_reward": ("data/models/stories260K", "data/hh-rlhf"),
    "hh_dpo": ("data/models/stories260K", "data/hh-rlhf"),
    "stories": ("data/models/stories260K", "data/tinystories-sample", "data/sentiment-labelled-sentences"),
}
SMALL: dict[str, dict[str, object]] = {
    "babyllama_sft": {"steps": 2, "batch": 2, "rows": 20, "max_length": 64, "pieces": 4},
    "hh_reward": {"reward.steps": 2, "control.steps": 2, "batch": 2, "max_rows": 60, "max_length": 160},
    "hh_dpo": {"dpo.steps": 2, "control.steps": 2, "batch": 2, "max_rows": 60, "max_length": 160},
    "stories": {
        "reward.steps": 2,
        "second_reward.steps": 2,
        "reward.eval.rows": 4,
        "second_reward.eval.rows": 4,
        "steps": 2,
        "prompts": 2,
        "group": 2,
        "held": 2,
        "max_new_tokens": 6,
    },
}


class Silent:
    """A display that shows nothing."""

    def say(self, text: str) -> None: ...


def run(name: str, out: Path, **options: object) -> Run:
    for path in NEEDED[name]:
        need(path)
    return whet.run(name, folder=str(SHARED / "data"), out=out, **options)


@pytest.mark.parametrize("name", list(SMALL))
def test_two_steps(name: str, tmp_path: Path) -> None:
    done = run(name, tmp_path / "run", seed=100, **SMALL[name])
    steps: dict[str, list[int]] = {}
    for row in done.rows("metrics"):
        steps.setdefault(row["stage"], []).append(row["step"])
    assert steps and all(seen == [1, 2] for seen in steps.values())
    assert done.table and done.report.is_file()


@pytest.mark.parametrize("name", list(NEEDED))
def test_a_folder_without_the_data_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(WhetError, match="nowhere"):
        whet.run(name, folder=str(tmp_path / "nowhere"), out=tmp_path / "run")


def test_stories_are_whole_and_on_one_line(tmp_path: Path) -> None:
    need("data/tinystories-sample")
    made = real.stories(tmp_path, live=Silent(), data=str(SHARED / "data"), holdout=0.1, seed=0)
    train, held = (texts(tmp_path / f"{name}.jsonl", "text") for name in ("train", "held"))
    assert made["numbers"] == {"train": len(train), "held": len(held)} and 100 < len(held) < 400 < len(train)
    assert not any("\n" in text or "  " in text for text in train + held)
    assert not any(text.endswith("She said it was") for text in train + held)  # the sample's last story is cut off


def test_no_prompt_is_on_both_sides(tmp_path: Path) -> None:
    need("data/tinystories-sample")
    data = str(SHARED / "data")
    made = real.prompts(tmp_path, live=Silent(), data=data, sentences=2, words=40, holdout=0.2, seed=0)
    train, held = (texts(tmp_path / f"{name}.jsonl", "prompt") for name in ("train", "held"))
    assert not set(train) & set(held) and len(set(train)) == len(train)
    assert made["numbers"]["repeated"] > 0 and max(len(text.split()) for text in train + held) <= 40


def test_no_sentence_is_in_both_halves(tmp_path: Path) -> None:
    need("data/sentiment-labelled-sentences")
    real.sentiment(tmp_path, live=Silent(), data=str(SHARED / "data"), each=2, seed=0)
    labels = {}
    for row in read_rows(DataConfig(path=tuple(str(SHARED / "data" / name) for name in real.SENTENCES))):
        labels[row.columns["text"]] = row.columns["label"]
    seen = []
    for name in "ab":
        good, bad = (set(texts(tmp_path / f"{name}.jsonl", side)) for side in ("chosen", "rejected"))
        assert {labels[text] for text in good} == {1.0} and {labels[text] for text in bad} == {0.0}
        seen.append(good | bad)
    assert not seen[0] & seen[1] and len(seen[0] | seen[1]) == len(labels)


def test_dialogues_are_counted_split_and_shuffled(tmp_path: Path) -> None:
    need("data/hh-rlhf")
    made = real.dialogues(
        tmp_path,
        live=Silent(),
        data=str(SHARED / "data"),
        subset="harmless-base",
        model="models/stories260K/hf",
        max_length=256,
        max_bad_rows=8,
        overlong="drop",
        holdout=0.3,
        seed=0,
        max_rows=120,
    )["numbers"]
    train, held, coins = (texts(tmp_path / f"{name}.jsonl", "chosen") for name in ("train", "held", "shuffled"))
    assert made["read"] == 120 == made["kept"] + made["overlong"] + made["bad"] + made["identical"]
    assert made["overlong"] > 0 and (made["train"], made["held"]) == (len(train), len(held))
    assert not {opens(text) for text in train} & {opens(text) for text in held}
    kept = sum(a == b for a, b in zip(train, coins, strict=True)) / len(train)
    assert 0.25 < kept < 0.75 and coins != train


def test_length_alone_takes_its_direction_from_the_training_pairs() -> None:
    longer, shorter = ([length_pair(a, b)] for a, b in ((5, 2), (2, 5)))
    assert real.length_accuracy(longer, longer * 3 + shorter) == 0.75
    assert real.length_accuracy(shorter, longer * 3 + shorter) == 0.25


def test_a_random_reward_says_nothing_but_is_always_the_same() -> None:
    values = real.chance(["a"] * 400, [str(i) for i in range(400)], seed=1)
    assert values == real.chance(["a"] * 400, [str(i) for i in range(400)], seed=1)
    assert values != real.chance(["a"] * 400, [str(i) for i in range(400)], seed=2)
    assert abs(sum(values) / 400 - 0.5) < 0.06 and 0 <= min(values) < max(values) < 1


def texts(path: Path, column: str) -> list[str]:
    return [json.loads(line)[column] for line in path.read_text().splitlines()]


def opens(transcript: str) -> str:
    return transcript.split("\n\nAssistant:")[0]


def length_pair(chosen: int, rejected: int) -> Pair:
    a, b = (
        Rollout(task_id="t", tokens=(1,) * (n + 1), mask=(False, *[True] * n), source=("prompt", *["sampled"] * n))
        for n in (chosen, rejected)
    )
    return Pair(id="p", chosen=a, rejected=b)


@pytest.mark.slow
def test_held_out_loss_falls(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        before, after = run("babyllama_sft", tmp_path / str(seed), seed=seed).table
        assert after["loss"] < before["loss"] and after["gain"]["low"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("subset", ["harmless-base", "helpful-base"])
@pytest.mark.parametrize(("name", "points"), [("hh_reward", 0.05), ("hh_dpo", 0.03)])
def test_labels_say_more_than_shuffled_ones(name: str, points: float, subset: str, tmp_path: Path) -> None:
    tables = [run(name, tmp_path / str(seed), subset=subset, seed=seed).table for seed in (0, 1, 2)]
    length, shuffled, learned = (fmean(table[row]["accuracy"] for table in tables) for row in range(3))
    assert learned >= shuffled + points
    assert 0.5 < length < 0.7


@pytest.mark.slow
def test_happier_stories_that_are_still_stories(tmp_path: Path) -> None:
    tables = [run("stories", tmp_path / str(seed), seed=seed).table for seed in (3, 4, 5)]
    assert errors_above_zero([grpo["gain"] for _, grpo, _ in tables]) >= 2
    assert abs(errors_above_zero([control["gain"] for _, _, control in tables])) <= 2
    for before, grpo, _ in tables:
        assert grpo["reference_loss"] - before["reference_loss"] <= 0.3
        assert 0.8 <= grpo["length"] / before["length"] <= 1.2
        assert grpo["distinct_2"] >= 0.9 * before["distinct_2"]


def errors_above_zero(gains: list[dict[str, float]]) -> float:
    """The mean in standard errors of the mean. Three seeds may agree by chance far better than each is known, so one
    seed's error is not taken as less than what its own interval says."""
    values = [gain["value"] for gain in gains]
    within = fmean(((gain["high"] - gain["low"]) / 3.92) ** 2 for gain in gains) ** 0.5
    return fmean(values) / (max(stdev(values), within) / len(values) ** 0.5)


def test_errors_of_seeds_that_agree_by_chance() -> None:
    def gain(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.196, "high": value + 0.196}

    assert errors_above_zero([gain(1.0), gain(2.0), gain(3.0)]) == pytest.approx(2 / (1 / 3**0.5))
    assert errors_above_zero([gain(0.1), gain(0.1), gain(0.1)]) == pytest.approx(0.1 / (0.1 / 3**0.5))
