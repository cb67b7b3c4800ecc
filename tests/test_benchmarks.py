"""The comparison takes turns, counts memory per side, says what failed, and gives both sides the same work."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks import material, table
from benchmarks.__main__ import main
from benchmarks.duel import Outcome, duel
from benchmarks.side import workload_from
from benchmarks.workloads import Workload, workloads

HERE = Path(__file__).parent
FAKES = {table.OURS: "fake_side", table.THEIRS: "fake_other_side"}


@pytest.fixture(autouse=True)
def fakes_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))


def fought(workload: Workload, folder: Path, *, rounds: int = 3) -> dict[str, Outcome]:
    return duel(workload, folder, FAKES, rounds=rounds, warmups=1, threads=1, logs=folder)


def fake(**changes: float) -> Workload:
    return replace(workloads(small=True)["dpo"], budget=1, slots=30, **changes)


def test_sides_take_turns_and_are_measured_apart(tmp_path: Path) -> None:
    outcomes = fought(fake(), tmp_path)
    assert (tmp_path / "turns").read_text() == "abababab"
    row = table.row_of(fake(), outcomes)
    assert row["failed"] == {} and row["faster"] > 0
    assert len(outcomes["whet"].seconds) == 3 and min(outcomes["trl"].seconds) >= 0.03
    assert outcomes["whet"].settings == {"milliseconds": 1} and outcomes["whet"].counts[0] == {"tokens": 3.0}
    assert max(outcomes["whet"].memory) > 20 > max(outcomes["trl"].memory) + 10


@pytest.mark.parametrize(("how", "said"), [(2.0, "RuntimeError: boom"), (3.0, "ended with status 3")])
def test_a_side_that_fails_is_named_and_nothing_is_guessed(tmp_path: Path, how: float, said: str) -> None:
    outcomes = fought(fake(kl=how), tmp_path, rounds=2)
    row = table.row_of(fake(), outcomes)
    assert row["failed"]["whet"].startswith(said) and "trl" not in row["failed"]
    assert row["faster"] is row["cpu"] is row["memory"] is None
    assert len(outcomes["trl"].seconds) == 2
    printed = "\n".join(table.lines_of([row]))
    assert f"dpo: whet failed: {said}" in printed and "x" not in printed.splitlines()[1]


def test_ratios_are_of_medians_and_of_neighbours() -> None:
    ours = Outcome(seconds=[1.0, 4.0, 2.0], cpu=[1.0, 1.0, 3.0], memory=[10.0, 30.0, 20.0])
    theirs = Outcome(seconds=[3.0, 4.0, 8.0], cpu=[5.0, 4.0, 4.0], memory=[60.0, 50.0, 40.0])
    row = table.row_of(fake(), {"whet": ours, "trl": theirs})
    assert (row["faster"], row["faster_range"], row["cpu"], row["memory"]) == (2.0, [1.0, 4.0], 4.0, 0.5)
    assert " ".join(table.lines_of([row])[1].split()) == "dpo 2.00x 1.00-4.00 4.00x 0.50x 2.000 4.000 30 60"


def test_what_is_too_small_to_measure_has_no_ratio() -> None:
    nothing = Outcome(seconds=[1.0], cpu=[0.0], memory=[0.0])
    row = table.row_of(fake(), {"whet": nothing, "trl": nothing})
    assert row["cpu"] is row["memory"] is None
    assert table.lines_of([row])[1].split()[3:5] == ["-", "-"]


def test_the_command_prints_a_table_and_writes_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(material, "make", lambda workload, folder: None)
    asked = ["dpo", "sft-equal", "--small", "--rounds", "2", "--out", str(tmp_path / "b.json"), "--slots", "10"]
    assert main([*asked, "--budget", "1", "--logs", str(tmp_path)], sides=FAKES) == 0
    printed = capsys.readouterr().out
    assert "torch" in printed.splitlines()[0] and "16 texts of 72 each tokens" in printed
    written = json.loads((tmp_path / "b.json").read_text())
    assert [row["name"] for row in written["rows"]] == ["dpo", "sft-equal"]
    assert written["environment"]["threads"] == 2 and written["rows"][0]["workload"]["slots"] == 10
    assert "what a library prints" in (tmp_path / "dpo-whet.log").read_text()


def test_an_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["gpro"])
    assert stopped.value.code == 2
    assert "no row is called gpro; rows: " in capsys.readouterr().err


def test_lengths_are_ragged_and_the_same_for_both_sides() -> None:
    dpo = workloads()["dpo"]
    lengths = dpo.lengths(4000)
    assert lengths == dpo.lengths(4000) == workload_from(json.loads(json.dumps(asdict(dpo)))).lengths(4000)
    assert max(lengths) == 256 and min(lengths) >= 1
    assert 60 < sum(lengths) / 4000 < 66  # 64 · (1 − (63/64)^256) = 62.9 with the cap
    assert set(workloads()["sft"].lengths(20_000)) == set(range(32, 513))


def test_rows_have_the_tokens_they_say() -> None:
    for name in ("dpo", "sft", "grpo", "reward-equal"):
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
def test_whet_and_trl_do_the_same_work(tmp_path: Path) -> None:
    from benchmarks.__main__ import SIDES

    for name, row in workloads(model="tiny", small=True).items():
        folder = tmp_path / name
        material.make(row, folder)
        outcomes = duel(row, folder, SIDES, rounds=1, warmups=1, threads=1, logs=tmp_path)
        assert {side: outcome.failed for side, outcome in outcomes.items()} == {"whet": None, "trl": None}, name
        ours, theirs = outcomes["whet"].settings, outcomes["trl"].settings
        counted = "prompt tokens" if row.kind == "sample" else "tokens"
        assert ours[counted] == theirs[counted] > 0, name
