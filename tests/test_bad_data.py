"""Wrong files and rows: file, line and reason, or counted where that is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bad_input import DATA, DPO, GRPO, SFT, in_a_users_folder
from console import CHATS, PAIRS, TASKS, Whet, write


@pytest.fixture
def whet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Whet:
    return in_a_users_folder(monkeypatch, capsys, tmp_path)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("data=pair.jsonl",), ["no file 'pair.jsonl' (did you mean pairs.jsonl?)", "give a file"]),
        (("data=nofolder/pairs.jsonl",), ["no file 'nofolder/pairs.jsonl' (nor a folder 'nofolder')"]),
        (("model=nomodel",), ["nomodel is no folder", "give the path of a model folder"]),
        (("model=somewhere/nomodel",), ["somewhere/nomodel is no folder", "did you mean model?"]),
        (("model=somewhere",), ["somewhere is no model: it has no config.json"]),
    ],
)
def test_a_missing_file(whet: Whet, words: tuple[str, ...], parts: list[str]) -> None:
    Path("somewhere/model").mkdir(parents=True)
    rest = [word for word in DPO if word.partition("=")[0] != words[0].partition("=")[0]]
    whet(*rest, *words).refused(DATA, *parts)
    assert not Path("runs").exists()


def dialogue(*texts: str) -> dict[str, list[dict[str, str]]]:
    return {"messages": [{"role": r, "content": t} for r, t in zip(["user", "assistant"], texts, strict=False)]}


EMPTY_ANSWER, BLANK_ANSWER = {**PAIRS[0], "chosen": ""}, {**PAIRS[0], "rejected": " "}
SAME = {**PAIRS[0], "rejected": PAIRS[0]["chosen"]}
LONG = {"prompt": "What is 1 + 1 ? " * 200, "answer": "2"}


@pytest.mark.parametrize(
    ("recipe", "rows", "parts"),
    [
        ("dpo", [*PAIRS[:3], EMPTY_ANSWER, BLANK_ANSWER], ["2 rows are bad", "my.jsonl:4 has an empty 'chosen'",
         "my.jsonl:5 has an empty 'rejected'", "data.max_bad_rows allows 0"]),
        ("dpo", [*PAIRS[:3], "{broken", {"prompt": "q", "chosen": "a"}], ["my.jsonl:4 is not JSON",
         "my.jsonl:5 has no column 'rejected'"]),
        ("dpo", [*PAIRS[:3], SAME], ["1 of 4 rows are pairs of two identical answers (first: my.jsonl:4)", "remove"]),
        ("dpo", [{"prompt": "q", "chosn": "a", "rejected": "b"}], ["chosn (did you mean chosen?)",
         "pairs need chosen + rejected"]),
        ("dpo", CHATS[:3], ["the columns messages, of which no pairs can be made", "chosen + rejected"]),
        ("dpo", [], ["the dataset has no rows"]),
        ("sft", [*CHATS[:3], dialogue("q", "")], ["my.jsonl:4 'messages', message 2 is empty"]),
        ("sft", TASKS[:3], ["no demonstrations can be made", "prompt + completion"]),
        ("sft", [{"compltion": "a", "prompt": "q"}], ["compltion (did you mean completion?)"]),
        ("grpo", [*TASKS[:3], {"prompt": "", "answer": "2"}], ["my.jsonl:4 has an empty 'prompt'"]),
        ("grpo", [*TASKS[:3], LONG], ["1 of 4 rows are too long for the context (first: my.jsonl:4 with 1200 tokens",
         "at most 5% may be", "shorten them, set data.overlong=keep_end"]),
        ("kto", [{"prompt": "q", "completion": "a", "label": "maybe"}], ["'maybe' in 'label', which is no number"]),
    ],
)  # fmt: skip
def test_a_bad_row(whet: Whet, recipe: str, rows: list[object], parts: list[str]) -> None:
    """File, line and reason; the run that could not begin leaves no step."""
    write(Path("my.jsonl"), rows)
    more = ["reward=lab:math"] if recipe == "grpo" else []
    whet("run", recipe, "model=lab:base", "data=my.jsonl", "steps=1", *more).refused(DATA, *parts)
    assert not list(Path("runs").rglob("step_*"))


def test_bad_rows_may_be_left_out_when_asked_and_it_is_said(whet: Whet) -> None:
    write(Path("my.jsonl"), [*PAIRS, EMPTY_ANSWER])
    words = [word.replace("pairs", "my") for word in DPO]
    said = whet(*words, "data.max_bad_rows=1")
    assert said.code == 0 and "12 kept; 1 refused as malformed or empty" in said.err, said.err


def test_a_prompt_longer_than_the_context_is_cut_when_asked(whet: Whet) -> None:
    turns = [{"role": r, "content": "What is 1 + 1 ? " * 50} for r in ("user", "assistant", "user")]
    write(Path("my.jsonl"), [*TASKS[:3], LONG, {"prompt": [*turns, *turns[1:]], "answer": "2"}])
    words = [word.replace("tasks", "my") for word in GRPO]
    words = [*words, "reward=my.py:good", "prompts=5"]
    words.remove("prompts=2")
    whet(*words, "data.overlong=error").refused(DATA, "my.jsonl:4 has 1200 tokens, and at most 511 fit; shorten it")
    said = whet(*words, "data.overlong=keep_end", "--out", "run")
    assert said.code == 0 and "5 kept; 2 " in said.err, said.err
    prompts = [json.loads(line) for line in next(Path("run").rglob("rollouts.jsonl")).read_text().splitlines()]
    cut = {row["task_id"]: row["prompt"] for row in prompts}
    assert cut["my.jsonl:4"].endswith("1 ?") or cut["my.jsonl:4"].rstrip().endswith("?"), cut["my.jsonl:4"][-40:]
    assert cut["my.jsonl:5"].count("What") < 150


@pytest.mark.parametrize("words", [SFT, (*GRPO, "reward=my.py:good")])
def test_prompts_that_are_learned_from_and_held_out_raise_an_alarm(whet: Whet, words: tuple[str, ...]) -> None:
    name = next(word.partition("=")[2] for word in words if word.startswith("data="))
    words = tuple(word for word in words if not word.startswith("steps="))
    said = whet(*words, "steps=1", f"eval.data.path={name}", "--out", "run")
    assert said.code == 0
    alarm = "12 of 12 test prompts are also trained on"
    assert f"warning: {alarm}" in said.err and alarm in Path("run/report.html").read_text()
