"""Every usual layout is recognised, and a row that does not fit it says what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from whet.data.columns import detect
from whet.data.example import Example
from whet.data.messages import read_messages, read_transcript, transcript_text
from whet.data.rows import RowFault
from whet.errors import DataError

HUMAN, BOT = "\n\nHuman: ", "\n\nAssistant: "
USER = {"role": "user", "content": "Q"}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def read(**columns: Any) -> Example:
    return detect(columns).read(columns)


def texts(example: Example) -> tuple[str, list[str]]:
    return example.text, [answer[-1]["content"] for answer in example.answers]


@pytest.mark.parametrize(
    ("columns", "kind", "form", "prompt", "answers"),
    [
        ({"text": "a"}, "text", "plain", "", ["a"]),
        ({"prompt": "Q"}, "prompt", "plain", "Q", []),
        ({"prompt": [USER], "answer": "5"}, "prompt", "chat", "Q", []),
        ({"prompt": "Q", "completion": "A"}, "demonstration", "plain", "Q", ["A"]),
        ({"prompt": [USER], "completion": [said("A")]}, "demonstration", "chat", "Q", ["A"]),
        ({"prompt": "Q", "chosen": "A", "rejected": "B"}, "preference", "plain", "Q", ["A", "B"]),
        ({"prompt": [USER], "chosen": [said("A")], "rejected": [said("B")]}, "preference", "chat", "Q", ["A", "B"]),
        ({"chosen": [USER, said("A")], "rejected": [USER, said("B")]}, "preference", "chat", "Q", ["A", "B"]),
        (
            {"prompt": "Q", "chosen": [USER, said("A")], "rejected": [USER, said("B")]},
            "preference",
            "chat",
            "Q",
            ["A", "B"],
        ),
        (
            {"chosen": "go left now", "rejected": "go leaps now"},
            "preference",
            "plain",
            "go",
            [" left now", " leaps now"],
        ),
        (
            {"chosen": f"{HUMAN}Q{BOT}A", "rejected": f"{HUMAN}Q{BOT}B"},
            "preference",
            "transcript",
            "Q",
            ["A", "B"],
        ),
        (
            {
                "conversations": [{"from": "human", "value": "Q"}],
                "chosen": {"from": "gpt", "value": "A"},
                "rejected": {"from": "gpt", "value": "B"},
            },
            "preference",
            "chat",
            "Q",
            ["A", "B"],
        ),
        ({"prompt": "Q", "responses": ["A", "B"], "scores": [1, 2]}, "ranking", "plain", "Q", ["A", "B"]),
        ({"prompt": "Q", "completion": "A", "label": True}, "label", "plain", "Q", ["A"]),
        ({"messages": [USER, said("A")], "label": False}, "label", "chat", "Q", ["A"]),
        ({"text": "a", "label": 1}, "label", "plain", "", ["a"]),
        ({"prompt": "Q", "completions": ["A", "B"], "labels": [True, False]}, "steps", "plain", "Q", ["A", "B"]),
        ({"question": "Q", "answer": "A #### 5"}, "question", "question", "Q", ["A #### 5"]),
        ({"instruction": "Do", "input": "this", "output": "A"}, "demonstration", "question", "Do\n\nthis", ["A"]),
        ({"messages": [USER, said("A")]}, "messages", "chat", "", ["A"]),
    ],
)
def test_layouts(columns: dict[str, Any], kind: str, form: str, prompt: str, answers: list[str]) -> None:
    example = read(**columns)
    assert (example.kind, example.form, *texts(example)) == (kind, form, prompt, answers)


def test_ranks_are_turned_so_that_higher_is_better() -> None:
    assert read(prompt="Q", responses=["A", "B"], ranks=[2, 1]).numbers == (-2.0, -1.0)
    assert read(prompt="Q", responses=["A", "B"], scores=[2, 1]).numbers == (2.0, 1.0)


def test_the_reference_answer_is_the_part_behind_the_mark() -> None:
    assert read(question="Q", answer="7 * 10 + 2\n#### 72").answer == "72"
    assert read(prompt="Q", answer=5).answer == "5"
    assert read(prompt="Q", solution="x").answer == "x"


def test_every_other_column_is_kept_for_rewards() -> None:
    assert read(prompt="Q", answer="5", level=3, tags=["a"]).columns == {"answer": "5", "level": 3, "tags": ["a"]}


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"prompt": "", "chosen": "A", "rejected": "B"}, "has no prompt|empty 'prompt'"),
        ({"prompt": "Q", "chosen": "", "rejected": "B"}, "empty 'chosen'"),
        ({"prompt": "Q", "chosen": "A", "rejected": None}, "null for 'rejected'"),
        ({"prompt": "Q", "chosen": "A", "rejected": 3}, "'rejected' is a int"),
        ({"prompt": "Q", "completion": " \n "}, "empty 'completion'"),
        ({"prompt": " "}, "empty 'prompt'"),
        ({"text": ""}, "empty 'text'"),
        ({"text": ["a"]}, "of type list, not text"),
        ({"prompt": "Q", "responses": ["A"], "scores": [1]}, "fewer than two"),
        ({"prompt": "Q", "responses": ["A", "B"], "scores": [1]}, "2 responses and 1 scores"),
        ({"prompt": "Q", "responses": ["A", ""], "scores": [1, 2]}, "empty 'responses'"),
        ({"prompt": "Q", "completion": "A", "label": "good"}, "'good' in 'label', which is no number"),
        ({"prompt": "Q", "completion": "A", "label": float("nan")}, "not finite"),
        ({"prompt": "Q", "completions": ["A"], "labels": [1, 0]}, r"1 completions \(steps\) and 2 labels"),
        ({"messages": []}, "an empty list of messages"),
        ({"messages": "hello"}, "is text, not a list"),
        ({"messages": [{"role": "usr", "content": "Q"}]}, r"role 'usr' \(did you mean user\?\)"),
        ({"messages": [{"role": "user", "content": ""}]}, "message 1 is empty"),
        ({"messages": [{"role": "user", "content": None}]}, "null, not text"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "other than text"),
        ({"prompt": [USER, said("A")]}, "ends with the assistant's turn"),
        ({"chosen": [USER, said("A")], "rejected": [USER]}, "does not end with the assistant's turn|no prompt"),
        ({"chosen": "go on ", "rejected": "go on now"}, "one is the beginning of the other"),
        ({"prompt": "Q", "answer": "  "}, "no answer could be right"),
        ({"question": "Q", "answer": "so it is ####"}, "no answer could be right"),
        ({"messages": [USER, said("A")], "tools": "{"}, "is not JSON"),
    ],
)
def test_a_row_that_does_not_fit_says_why(columns: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowFault, match=reason):
        read(**columns)


def test_a_column_missing_in_a_later_row_is_named() -> None:
    layout = detect(["prompt", "completion"])
    with pytest.raises(
        RowFault, match=r"no column 'completion' \(did you mean completon\?\); it has prompt, completon"
    ):
        layout.read({"prompt": "Q", "completon": "A"})


def test_unknown_layouts_name_the_nearest_columns() -> None:
    with pytest.raises(DataError, match=r"promt \(did you mean prompt\?\)"):
        detect(["promt", "answers"])


def test_transcripts_go_there_and_back() -> None:
    text = f"{HUMAN}Hi{BOT}Hello\n\nthere{HUMAN}Bye{BOT}Bye: Human"
    messages = read_transcript(text, column="chosen")
    assert [m["role"] for m in messages] == ["user", "assistant", "user", "assistant"]
    assert transcript_text(messages) == text


def test_transcripts_share_their_beginning_however_many_turns_follow() -> None:
    example = read(chosen=f"{HUMAN}a{BOT}b{HUMAN}c{BOT}d", rejected=f"{HUMAN}a{BOT}e")
    assert [m["content"] for m in example.prompt] == ["a"]
    assert [[m["content"] for m in answer] for answer in example.answers] == [["b", "c", "d"], ["e"]]


def test_sharegpt_function_calls_become_tool_calls() -> None:
    turns = [
        {"from": "human", "value": "Q"},
        {"from": "function_call", "value": '{"name": "look", "arguments": {"at": 1}}'},
        {"from": "observation", "value": "seen"},
    ]
    call = read_messages(turns, column="conversations")[1]
    assert call["role"] == "assistant" and call["tool_calls"][0]["function"] == {"name": "look", "arguments": {"at": 1}}
    with pytest.raises(RowFault, match="not JSON with name"):
        read_messages([{"from": "function_call", "value": "look"}], column="conversations")
