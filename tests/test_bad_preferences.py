"""Comparisons that cannot be learned from: one clear sentence, the file as it was, and no step of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bad_input import CONFIG, DATA, MODEL, in_a_users_folder
from console import PAIRS, Whet, write
from tiny_tokenizer import tiny_tokenizer

from tests.model_folders import write_model

LONG = {"prompt": "What is 1 + 1 ? " * 200, "chosen": "2", "rejected": "3"}
LONG_ANSWER = {"prompt": "What is 1 + 1 ?", "chosen": "2 " * 900, "rejected": "3"}
RANKED = [{"prompt": f"{i} + 1 = ", "responses": [str(i + 1), "0", "no"], "scores": [2, 1, 0]} for i in range(1, 4)]


@pytest.fixture
def whet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Whet:
    return in_a_users_folder(monkeypatch, capsys, tmp_path)


@pytest.mark.parametrize("loss", ["dpo", "orpo", "ld_dpo"])
@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ([*PAIRS[:3], {**PAIRS[3], "chosen": ""}], ["1 row is bad", "my.jsonl:4 has an empty 'chosen'", "mend"]),
        ([*PAIRS[:3], {**PAIRS[3], "rejected": None}], ["my.jsonl:4 has null for 'rejected'"]),
        ([*PAIRS[:3], {**PAIRS[3], "rejected": PAIRS[3]["chosen"]}],
         ["1 of 4 rows are pairs of two identical answers (first: my.jsonl:4); at most 5% may be: remove them",
          "data.identical_limit"]),
        ([*PAIRS[:3], LONG], ["1 of 4 rows are too long for the context (first: my.jsonl:4 with", "where 512 fit",
                              "data.overlong=keep_end (cuts prompts from the left)"]),
    ],
    ids=["empty", "null", "identical", "overlong"],
)  # fmt: skip
def test_a_bad_pair(whet: Whet, loss: str, rows: list[object], parts: list[str]) -> None:
    before = write(Path("my.jsonl"), rows).read_bytes()
    whet("run", loss, "model=lab:base", "data=my.jsonl", "steps=1", "data.holdout=0").refused(DATA, *parts)
    assert Path("my.jsonl").read_bytes() == before and not list(Path("runs").rglob("step_*"))


@pytest.mark.parametrize(
    ("bad", "part"),
    [
        ({**RANKED[0], "responses": ["2"], "scores": [1]}, "my.jsonl:4 has fewer than two responses to rank"),
        ({**RANKED[0], "scores": [1, 0]}, "my.jsonl:4 has 3 responses and 2 scores"),
        ({**RANKED[0], "responses": ["2", "", "3"]}, "my.jsonl:4 has an empty 'responses'"),
        ({**RANKED[0], "scores": [1, 1, 1]}, "(first: my.jsonl:4); at most 5% may be"),
    ],
)
def test_a_bad_ranking(whet: Whet, bad: dict[str, object], part: str) -> None:
    write(Path("my.jsonl"), [*RANKED, bad])
    words = ("run", "plackett_luce", "model=lab:base", "data=my.jsonl", "steps=1", "data.holdout=0")
    whet(*words).refused(DATA, part)


def test_an_overlong_prompt_is_cut_when_asked_and_an_overlong_answer_never(whet: Whet) -> None:
    write(Path("my.jsonl"), [*PAIRS[:3], LONG])
    words = ("run", "dpo", "model=lab:base", "data=my.jsonl", "steps=1", "data.holdout=0")
    said = whet(*words, "data.overlong=keep_end")
    assert said.code == 0 and "4 kept; 1 with a prompt cut to its end" in said.err, said.err
    whet(*words, "data.overlong=error").refused(DATA, "my.jsonl:4 has", "and at most 512 fit; shorten it, or set")
    write(Path("my.jsonl"), [*PAIRS[:3], LONG_ANSWER])
    whet(*words, "data.overlong=keep_end").refused(DATA, "1 of 4 rows are too long", "my.jsonl:4")
    said = whet(*words, "data.overlong=keep_end", "data.overlong_limit=0.5")
    assert said.code == 0 and "3 kept; 1 left out as too long" in said.err, "what is left out is counted"


@pytest.mark.parametrize("loss", ["dpo", "ld_dpo", "tdpo1"])
def test_a_reference_of_another_vocabulary(whet: Whet, loss: str) -> None:
    write_model(Path("mine"))
    other = tiny_tokenizer()
    inner = json.loads(other.backend_tokenizer.to_str())
    vocabulary = inner["model"]["vocab"]
    vocabulary["A"], vocabulary["B"] = vocabulary["B"], vocabulary["A"]
    write_model(Path("other"))
    kept = json.loads((Path("other") / "tokenizer.json").read_text())
    (Path("other") / "tokenizer.json").write_text(json.dumps({**kept, "model": inner["model"]}))
    said = whet("run", loss, "model=mine", "data=pairs.jsonl", "reference.path=other", "data.holdout=0", "steps=1")
    said.refused(MODEL, "reference.path=other has another vocabulary than mine", "give a model with the same tokenizer")
    assert not list(Path("runs").rglob("step_*"))


def test_a_reference_that_no_loss_looks_at(whet: Whet) -> None:
    said = whet("run", "orpo", "model=lab:base", "data=pairs.jsonl", "reference.path=lab:base")
    said.refused(CONFIG, "reference is given, but orpo looks at none: leave it out")
