"""The race to a held-out pass@1: what the stopwatch counts, that both sides have one job, and what the table claims."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import quality, quality_trl, quality_whet
from benchmarks.quality_job import REWARDS, Exam, Job, Stopwatch, coin, right, train_rows
from whet.lab import base_model_path
from whet.lab.data import tasks
from whet.lab.worlds import gold

JOB = Job(side="whet", seed=0, rate=1e-3, target=0.5)


def ticking(*times: float) -> Iterator[float]:
    return iter(times)


def test_the_stopwatch_stands_still_while_the_exam_is_asked() -> None:
    times = ticking(10.0, 11.0, 11.5, 13.0, 113.0, 114.0, 115.0, 117.0, 200.0)
    marks = iter([0.2, 0.6])
    watch = Stopwatch(replace(JOB, every=2), lambda weights: next(marks), clock=lambda: next(times))
    watch.begin()
    assert [watch.step(dict) for _ in range(4)] == [False, False, False, True]
    assert [(m.steps, m.cpu, m.value) for m in watch.curve] == [(2, 2.5, 0.2), (4, 5.5, 0.6)]
    assert watch.crossing == watch.curve[-1]


def test_a_run_that_never_gets_there_ends_and_says_so() -> None:
    watch = Stopwatch(replace(JOB, every=4, most=6), lambda weights: 0.1)
    watch.begin()
    assert [watch.step(dict) for _ in range(6)] == [False] * 5 + [True]
    assert [m.steps for m in watch.curve] == [4, 6] and watch.json()["crossing"] is None


def test_both_sides_have_one_job() -> None:
    job = replace(JOB, prompts=4, group=6, limit=7, clip=0.7, micro=8)
    ours, theirs = quality_whet.config_of(job, Path("start")), quality_trl.arguments_of(job, Path("out"))
    assert theirs["per_device_train_batch_size"] == 8 and theirs["gradient_accumulation_steps"] == 3
    assert ours.prompts * ours.group == 24 and theirs["num_generations"] == ours.group
    assert theirs["max_completion_length"] == ours.sampling.max_new_tokens == 7
    assert theirs["temperature"] == ours.sampling.temperature == 1.0
    assert theirs["learning_rate"] == ours.optim.lr and theirs["lr_scheduler_type"] == ours.optim.schedule
    assert theirs["max_grad_norm"] == ours.optim.clip == 0.7 and theirs["beta"] == ours.kl.coef == 0.0
    assert theirs["loss_type"] == "grpo" and ours.weigh.name == "sequence_mean"
    assert ours.advantage.options == {"ddof": 1, "eps": 1e-4} and ours.optim.weight_decay == 0.0


def test_prompts_are_the_same_tokens_for_both_sides() -> None:
    from whet.data.render import Renderer
    from whet.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(str(base_model_path("base")))
    for row in train_rows(20):
        theirs = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=True)
        ids = theirs["input_ids"] if not isinstance(theirs, list) else theirs
        assert tuple(ids) == Renderer(tokenizer).prompt_ids(row["prompt"], form="chat")


def test_the_verifier_is_the_worlds_own_and_the_coin_knows_nothing() -> None:
    asked = tasks("math", "test", 30)
    for said in (lambda task: str(task.answer), lambda task: "12", lambda task: f"It is {task.answer}."):
        texts = [said(task) for task in asked]
        found = right([[{"content": text}] for text in texts], [str(task.answer) for task in asked])
        assert found == [gold(task, text)[0] for task, text in zip(asked, texts, strict=True)]
    flips = [value for i in range(200) for value in coin([[{"content": str(i)}]] * 8)]
    assert 0.45 < sum(flips) / len(flips) < 0.55 and set(REWARDS) == {"right", "coin"}


def test_held_out_prompts_are_not_learned_from() -> None:
    exam = Exam(base_model_path("base"), limit=8, tasks=40, answers=1)
    learned = {row["prompt"][-1]["content"] for row in train_rows()}
    first, second = ({task.prompt_text for task in part} for part in (exam._first, exam._second))
    assert not first & learned and not second & learned and not first & second
    before = exam()
    worse = {name: torch.zeros_like(weight) for name, weight in exam._model.hf.state_dict().items()}
    assert exam(worse) == 0.0 and before == Exam(base_model_path("base"), limit=8, tasks=40, answers=1)()


def test_whet_learns_until_the_stopwatch_has_seen_enough() -> None:
    start = base_model_path("base")
    seen: list[dict[str, Any]] = []

    def exam(weights: Any) -> float:
        seen.append({name: weight.clone() for name, weight in weights.items()})
        return 0.9 if len(seen) == 2 else 0.0

    watch = Stopwatch(replace(JOB, prompts=2, group=4, every=1, most=9), exam)
    weights = quality_whet.learn(watch.job, start, watch)
    assert watch.steps == 2 and watch.crossing is not None and 0.0 < watch.curve[0].cpu < watch.curve[1].cpu
    assert any(not torch.equal(seen[0][name], seen[1][name]) for name in weights)
    assert all(torch.equal(weights[name], seen[1][name]) for name in weights)


def run_of(side: str, seed: int, cpu: float | None, *, reward: str = "right") -> dict[str, Any]:
    job = asdict(replace(JOB, side=side, seed=seed, reward=reward))  # type: ignore[arg-type]
    measured = {"steps": 10, "cpu": cpu or 50.0, "value": 0.6 if cpu else 0.4}
    return {"job": job, "curve": [measured], "crossing": measured if cpu else None, "final": 0.55}


def test_the_ratio_is_a_median_and_only_where_everyone_got_there() -> None:
    runs = [run_of("whet", 0, 2.0), run_of("trl", 0, 8.0), run_of("whet", 1, 3.0), run_of("trl", 1, 6.0)]
    runs += [run_of("whet", 2, 2.0), run_of("trl", 2, 5.0)]
    control = run_of("whet", 0, None, reward="coin")
    summary = quality.summary_of([*runs, control])
    assert (summary["ratio"], summary["range"]) == (0.4, [0.25, 0.5]) and quality.verdict(summary)
    printed = "\n".join(quality.lines_of(summary, before={"exam": 0.3, "final": 0.28}, target=0.5))
    assert "median ratio 0.400 (0.250-0.500)" in printed and "did not reach the target" in printed
    assert not quality.verdict(quality.summary_of(runs))  # without a control nothing is shown
    assert not quality.verdict(quality.summary_of([*runs, run_of("whet", 0, 4.0, reward="coin")]))
    missing = quality.summary_of([*runs[:-1], run_of("trl", 2, None), control])
    assert missing["ratio"] is None and missing["seeds"][2]["ratio"] is None and not quality.verdict(missing)


def test_sides_take_turns_and_the_control_comes_last() -> None:
    runs = quality.contest(JOB, 2, {"whet": 1.0, "trl": 2.0})
    assert [(job.side, job.seed, job.reward) for job in runs] == [
        ("whet", 0, "right"),
        ("trl", 0, "right"),
        ("whet", 1, "right"),
        ("trl", 1, "right"),
        ("whet", 0, "coin"),
    ]
    chosen = quality.choosing(JOB)
    assert not {job.seed for job in chosen} & set(range(5)) and {job.side for job in chosen} == {"whet", "trl"}


def test_rates_are_compared_by_their_mean_and_a_miss_disqualifies() -> None:
    def at(rate: float, side: str, *cpu: float | None) -> list[dict[str, Any]]:
        runs = [run_of(side, 100 + i, seconds) for i, seconds in enumerate(cpu)]
        return [{**found, "job": {**found["job"], "rate": rate}} for found in runs]

    lines = quality.choice_lines(
        [*at(1.0, "whet", 4.0, 6.0), *at(2.0, "whet", 1.0, None), *at(1.0, "trl", 9.0, 9.0), *at(2.0, "trl", 8.0, 8.0)]
    )
    assert "whet rate 2: not always reached (2 seeds)" in lines and "whet: 1" in lines and "trl: 2" in lines


def test_a_run_that_is_there_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def fake(command: list[str], **_: Any) -> None:
        asked.append(json.loads(command[-1]))
        found = {**run_of("whet", 0, 1.0), "job": asked[-1]}
        Path(command[-2]).write_text(json.dumps(found))

    monkeypatch.setattr(subprocess, "run", fake)
    for job in (JOB, JOB, replace(JOB, target=0.6), replace(JOB, target=0.6)):
        quality.run(job, tmp_path, tmp_path, 1)
    assert [job["target"] for job in asked] == [0.5, 0.6]


@pytest.mark.slow
def test_one_small_race_from_start_to_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--small", "--seeds", "1", "--folder", str(tmp_path / "runs"), "--out", str(tmp_path / "q.json")]
    quality.main([*asked, "--points", "-1"])
    quality.main([*asked, "--points", "-1"])
    written = json.loads((tmp_path / "q.json").read_text())
    assert [run["job"]["side"] for run in written["runs"]] == ["whet", "trl", "whet"]
    assert all(run["crossing"]["steps"] == 2 and run["environment"]["threads"] == 1 for run in written["runs"])
    assert written["seeds"][0]["ratio"] > 0 and "REACHED the target" in capsys.readouterr().out
