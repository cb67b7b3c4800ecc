"""The comparison takes turns, counts memory per side, says what failed, and gives all sides the same work."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import material, table
from benchmarks.__main__ import main
from benchmarks.contenders import VLLM_MISSING, Contender, contenders
from benchmarks.duel import Outcome, duel
from benchmarks.goals import goals, judged
from benchmarks.machine import environment
from benchmarks.side import workload_from
from benchmarks.workloads import Workload, workloads

HERE = Path(__file__).parent


def letter(name: str, milliseconds: int) -> Contender:
    return Contender(module="fake_side", setting={"name": name, "milliseconds": milliseconds})


FAKES = {"whet": letter("a", 1), "trl": letter("b", 30), "trl-micro": letter("c", 10)}


def fakes(workload: Workload, *, vllm: str | None = None) -> dict[str, Contender]:
    return FAKES


@pytest.fixture(autouse=True)
def fakes_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def fought(workload: Workload, folder: Path, *, rounds: int = 3) -> dict[str, Outcome]:
    return duel(workload, folder, FAKES, rounds=rounds, warmups=1, threads=1, logs=folder)


def fake(**changes: float) -> Workload:
    return replace(workloads(small=True)["dpo-live"], **changes)


def test_sides_take_turns_and_are_measured_apart(tmp_path: Path) -> None:
    outcomes = fought(fake(), tmp_path)
    assert (tmp_path / "turns").read_text() == "abcabcabcabc"
    row = table.row_of(fake(), outcomes)
    assert row["failed"] == {} and row["best"] == "trl-micro" and set(row["against"]) == {"trl", "trl-micro"}
    assert len(outcomes["whet"].seconds) == 3 and min(outcomes["trl"].seconds) >= 0.03
    assert outcomes["whet"].settings == {"milliseconds": 1} and outcomes["whet"].counts[0] == {"tokens": 3.0}
    assert max(outcomes["whet"].memory) > 20 > max(outcomes["trl"].memory) + 10


@pytest.mark.parametrize(("how", "said"), [(2.0, "RuntimeError: boom"), (3.0, "ended with status 3")])
def test_a_side_that_fails_is_named_and_nothing_is_guessed(tmp_path: Path, how: float, said: str) -> None:
    outcomes = fought(fake(kl=how), tmp_path, rounds=2)
    row = table.row_of(fake(), outcomes)
    assert row["failed"]["whet"].startswith(said) and "trl" not in row["failed"]
    assert row["against"] == {} and row["best"] is row["limit"] is None
    assert [goal["met"] for goal in row["goals"]] == [None, None]
    assert len(outcomes["trl"].seconds) == 2
    printed = "\n".join(table.lines_of([row]))
    assert f"dpo-live: whet failed: {said}" in printed and "failed" in printed.splitlines()[1]
    assert printed.splitlines()[2].split()[1:5] == ["-"] * 4


def outcome(seconds: list[float], cpu: list[float], memory: list[float], **counts: Any) -> Outcome:
    return Outcome(seconds=seconds, cpu=cpu, memory=memory, counts=[dict(counts) for _ in seconds])


def test_ratios_are_of_medians_and_of_neighbours_and_against_the_fastest_peer() -> None:
    sides = {
        "whet": outcome([1.0, 4.0, 2.0], [1.0, 1.0, 3.0], [10.0, 30.0, 20.0]),
        "trl": outcome([9.0, 9.0, 9.0], [9.0, 9.0, 9.0], [99.0, 99.0, 99.0]),
        "trl-micro": outcome([3.0, 4.0, 8.0], [5.0, 4.0, 4.0], [60.0, 50.0, 40.0]),
    }
    row = table.row_of(fake(), sides)
    assert row["best"] == "trl-micro"
    assert row["against"]["trl-micro"] == {"faster": 2.0, "faster_range": [1.0, 4.0], "cpu": 4.0, "memory": 0.5}
    lines = table.lines_of([row])
    assert " ".join(lines[3].split()) == "trl-micro * 2.00x 1.00-4.00 4.00x 0.50x 60 4.000"
    assert lines[1].endswith("missed: faster >= 2.2x")
    assert "  goal faster >= 2.2x: missed (2)" in lines and "  goal memory <= 0.6x: met (0.5)" in lines
    assert "noisy" in lines[0] and "noisy" in table.MEANING


def test_a_peer_that_fails_takes_no_part() -> None:
    sides = {
        "whet": outcome([1.0], [1.0], [1.0]),
        "trl": Outcome(failed="no"),
        "trl-micro": outcome([3.0], [1.0], [2.0]),
    }
    row = table.row_of(fake(), sides)
    assert row["best"] == "trl-micro" and list(row["failed"]) == ["trl"]


def test_what_is_too_small_to_measure_has_no_ratio() -> None:
    nothing = outcome([1.0], [0.0], [0.0])
    row = table.row_of(fake(), {"whet": nothing, "trl": nothing})
    assert row["against"]["trl"]["cpu"] is row["against"]["trl"]["memory"] is None
    assert table.lines_of([row])[2].split()[4:6] == ["-", "-"]
    assert row["goals"][1] == {"goal": "memory <= 0.6x", "value": None, "met": None}


def test_the_share_of_the_limit_is_of_each_step_at_the_rates_around_it() -> None:
    workload = workloads()["sft"]
    whet = outcome([2.0, 4.0], [1.0, 1.0], [1.0, 1.0], rate=1e12, bandwidth=1e10)
    whet.counts[1]["rate"] = 5e11
    row = table.row_of(workload, {"whet": whet, "trl": outcome([9.0, 9.0], [1.0, 1.0], [9.0, 9.0])})
    assert row["limit"]["range"][0] == pytest.approx(row["limit"]["range"][1])  # half the rate, twice the time
    assert row["limit"]["sampling"] == 0.0 and row["goals"][-1]["goal"] == "limit >= 60%"
    assert row["goals"][-1]["met"] == (row["limit"]["share"] >= 0.6)


def test_sampling_is_compared_with_generate_and_with_the_fastest_other() -> None:
    sides = {
        "whet": outcome([1.0], [1.0], [5.0]),
        "generate": outcome([2.0], [1.0], [9.0]),
        "continuous": outcome([4.0], [1.0], [1.0]),
        "vllm": outcome([1.4], [1.0], [1.0]),
    }
    found = {goal["goal"]: (goal["value"], goal["met"]) for goal in table.row_of(workloads()["sample"], sides)["goals"]}
    assert found == {
        "faster than generate >= 3x": (2.0, False),
        "faster than others >= 1.5x": (1.4, False),
        "memory of generate <= 0.6x": (5 / 9, True),
    }


def test_goals_are_those_of_row_and_model() -> None:
    assert [goal.bound for goal in goals("sft-packed", "60M")] == [1.05, 0.6]
    assert [goal.bound for goal in goals("grpo-equal", "7M")] == [2.5, 0.6]
    assert [goal.bound for goal in goals("sample", "60M", share=1.0)] == [3.0, 1.5, 0.6, 0.7]
    # half of the limit at 50 % and half at 60 %: 1 / (0.5 / 0.5 + 0.5 / 0.6)
    assert goals("grpo", "7M", share=0.5)[-1].bound == pytest.approx(6 / 11)
    assert [goal.measure for goal in goals("sample", "7M", slots=16, share=1.0)] == ["faster", "faster", "memory"]
    for name in workloads():
        assert goals(name, "7M", share=0.0)[-1].measure == "limit", name
    assert judged({"name": "sft", "model": "tiny", "workload": {"slots": 64}, "limit": None, "against": {}})


def test_the_command_prints_a_table_writes_json_and_goes_on_where_it_was_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(material, "make", lambda workload, folder: None)
    monkeypatch.setattr("benchmarks.__main__.environment", lambda threads: environment(threads) | {"commit": "abc"})
    asked = ["--small", "--rounds", "1", "--warmups", "0", "--out", str(tmp_path / "b.json"), "--logs", str(tmp_path)]
    assert main(["dpo-live", *asked, "--slots", "10"], cast=fakes) == 0
    assert main(["dpo-live", "sft-equal", *asked, "--slots", "10", "--peers", "trl,trl-micro"], cast=fakes) == 0
    printed = capsys.readouterr().out
    assert "torch" in printed.splitlines()[0] and "16 texts of 72 each tokens" in printed
    assert printed.count("dpo-live: kept from") == 1 and "sft-equal: kept" not in printed
    written = json.loads((tmp_path / "b.json").read_text())
    assert [row["name"] for row in written["rows"]] == ["dpo-live", "sft-equal"]
    assert written["environment"]["threads"] == 2 and written["rows"][0]["workload"]["slots"] == 10
    assert "what a library prints" in (tmp_path / "dpo-live-whet.log").read_text()
    assert main(["dpo-live", *asked, "--slots", "11", "--peers", "trl"], cast=fakes) == 0
    assert "kept" not in capsys.readouterr().out
    rows = {row["name"]: row for row in json.loads((tmp_path / "b.json").read_text())["rows"]}
    assert set(rows) == {"dpo-live", "sft-equal"} and set(rows["dpo-live"]["sides"]) == {"whet", "trl"}


def test_a_row_is_measured_again_where_it_failed_or_anything_was_otherwise() -> None:
    from benchmarks.__main__ import Results

    results = Results(HERE / "no such file", {})
    same = {"commit": "abc", "rounds": 5}
    results.rows = [{"asked": same, "failed": {}, "name": "sft"}]
    assert results.kept(dict(same)) is results.rows[0]
    assert results.kept({**same, "commit": "abd"}) is None
    results.rows.append({"asked": {**same, "commit": "abc+"}, "failed": {}, "name": "sft"})
    assert results.kept({**same, "commit": "abc+"}) is None
    results.rows[0]["failed"] = {"trl": "no"}
    assert results.kept(same) is None


def test_vllm_takes_part_where_an_interpreter_has_it() -> None:
    sample = workloads()["sample"]
    assert not [name for name in contenders(sample) if "vllm" in name] and "--vllm" in VLLM_MISSING
    sides = contenders(sample, vllm="/other/python")
    assert sides["vllm"].python == "/other/python" and sides["vllm-32"].setting == {"block": 32}
    assert contenders(workloads()["grpo"], vllm="/other/python").keys() == contenders(workloads()["grpo"]).keys()


def test_an_interpreter_without_any_library_can_be_a_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/a/path/of/another/interpreter")
    bare = Path(sys.base_prefix) / "bin" / "python3"
    side = Contender(module="benchmarks.vllm_side", python=str(bare))
    outcomes = duel(fake(), tmp_path, {"vllm": side}, rounds=1, warmups=0, threads=1, logs=tmp_path)
    assert outcomes["vllm"].failed is not None and "No module named 'vllm'" in outcomes["vllm"].failed


def test_the_heads_memory_has_its_goals() -> None:
    from benchmarks.head_memory import lines_of

    forms = {"whet": {"memory": 10.0}, "trl": {"memory": 9.0}, "all logits": {"memory": 100.0}}
    size = {"tokens": 8, "width": 4, "vocabulary": 16, "logits": 1.0}
    lines = lines_of({**size, "forms": forms})
    assert lines[2].endswith("whet's is 1.11x of it, goal <= 1.05x: missed") and lines[3].endswith("<= 0.15x: met")
    failed = {**size, "forms": {**forms, "trl": {"failed": "no"}}}
    assert lines_of(failed)[2].split() == ["trl", "failed:", "no"]


def test_an_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["gpro"])
    assert stopped.value.code == 2
    assert "no row is called gpro; rows: " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["sft", "--peers", "vllm"])
    assert "--peers vllm names no peer of a chosen row; its peers: trl, " in capsys.readouterr().err


def test_lengths_are_ragged_and_the_same_for_both_sides() -> None:
    dpo = workloads()["dpo-live"]
    lengths = dpo.lengths(4000)
    assert lengths == dpo.lengths(4000) == workload_from(json.loads(json.dumps(asdict(dpo)))).lengths(4000)
    assert max(lengths) == 256 and min(lengths) >= 1
    assert 60 < sum(lengths) / 4000 < 66  # 64 · (1 − (63/64)^256) = 62.9 with the cap
    assert set(workloads()["sft"].lengths(20_000)) == set(range(32, 513))


def test_rows_have_the_tokens_they_say() -> None:
    for name in ("dpo-live", "sft", "grpo", "reward-equal"):
        workload = workloads(small=True)[name]
        rows = material.make_rows(workload)
        assert rows == material.make_rows(workload) and len(rows) == workload.rows
        words = [len(text.split()) for row in rows for key, text in row.items() if key != "prompt"]
        if name != "grpo":
            lengths = workload.lengths(len(words))
            assert words == [max(2, length - 1) if "chosen" in rows[0] else length - 1 for length in lengths]


@pytest.mark.parametrize("equal", [False, True])
def test_the_model_stops_as_often_as_it_should(equal: bool, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    row = workloads(model="tiny", small=True)["sample-equal" if equal else "sample"]
    material.make(row, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(str(tmp_path / "model"), dtype=torch.float32)
    with torch.no_grad():
        logits = model(input_ids=torch.randint(2, row.shape.vocabulary, (4, 40))).logits
    stop = logits.softmax(dim=-1)[..., 0]
    assert model.dtype == torch.float32 and row.stop == (0.0 if equal else 1 / 16)
    assert stop.max() < 1e-9 if equal else (stop - row.stop).abs().max() < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("name", workloads())
def test_all_sides_do_the_same_work(name: str, tmp_path: Path) -> None:
    row = workloads(model="tiny", small=True)[name]
    material.make(row, tmp_path)
    outcomes = duel(row, tmp_path, contenders(row), rounds=1, warmups=1, threads=1, logs=tmp_path)
    assert {side: outcome.failed for side, outcome in outcomes.items()} == dict.fromkeys(outcomes)
    counted = "prompt tokens" if row.kind == "sample" else "tokens"
    assert len({outcome.settings[counted] for outcome in outcomes.values()}) == 1
    found = table.row_of(row, outcomes, model="tiny")
    assert 0 < found["limit"]["share"] < 1 and set(found["against"]) == set(outcomes) - {"whet"}
