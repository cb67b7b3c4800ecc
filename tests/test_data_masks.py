"""Which tokens of an answer count: a given beginning belongs to the prompt, and named tokens count nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bad_input import CONFIG, in_a_users_folder
from console import Whet
from tiny_tokenizer import CHATML, MARKED, tiny_tokenizer

from tests.model_folders import write_model
from whet.batch import Tree, pack
from whet.data import dataset
from whet.data.config import DataConfig
from whet.data.intake import Report
from whet.data.messages import user
from whet.data.mismatch import mismatched
from whet.data.render import Renderer
from whet.data.rows import rows_of
from whet.errors import ConfigError, DataError
from whet.losses.terms import Views
from whet.models.config import ModelConfig
from whet.models.io import load_policy
from whet.train.credit import token_column
from whet.train.step import Reference
from whet.types import Pair, Rollout

PLAIN = Renderer(tiny_tokenizer(template=None))
CHAT = Renderer(tiny_tokenizer())
STOP = "<|im_end|>"


def said(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def chat_row(**more: Any) -> dict[str, Any]:
    return {"prompt": said("user", "Q"), "chosen": said("assistant", "A"), "rejected": said("assistant", "BB"), **more}


def plain_row(**more: Any) -> dict[str, Any]:
    return {"prompt": "Q ", "chosen": "A", "rejected": "BB", **more}


def pairs(renderer: Renderer, *rows: dict[str, Any], **options: Any) -> tuple[list[Pair], Report]:
    return dataset.pairs(rows_of(rows), renderer, config=DataConfig(path="rows", **options))


def parts(renderer: Renderer, rollout: Rollout) -> tuple[str, str]:
    """(the prompt, what counts) as text."""
    counted = [token for token, counts in zip(rollout.tokens, rollout.mask, strict=True) if counts]
    return tuple(renderer.tokenizer.decode(list(ids), skip_special_tokens=False) for ids in (rollout.prompt, counted))  # type: ignore[return-value]


# ------------------------------------------------------------------------------------------------- a given beginning


@pytest.mark.parametrize("template", [CHATML, MARKED, CHATML.replace("m.content", "m.content | trim")])
@pytest.mark.parametrize("begun", ["1. x\n2. ", " 1. <think>", "<|im_end|>"], ids=["steps", "tag", "stop_as_text"])
def test_a_given_beginning_is_prompt_behind_the_template(template: str, begun: str) -> None:
    """The template may strip the content's first space; control text in it is the letters that it is."""
    renderer = Renderer(tiny_tokenizer(template=template))
    ((pair,), _) = pairs(renderer, chat_row(begun=begun), prefix="begun")
    before = renderer.tokenizer.decode(list(renderer.prompt_ids(user("Q"), form="chat")), skip_special_tokens=False)
    kept = begun.lstrip() if "trim" in template else begun
    assert parts(renderer, pair.chosen) == (before + kept, f"A{STOP}")
    assert parts(renderer, pair.rejected) == (before + kept, f"BB{STOP}")
    assert pair.chosen.prompt == pair.rejected.prompt and "sampled" not in pair.chosen.source[: len(pair.chosen.prompt)]
    assert pair.chosen.tokens.count(renderer.stop) == 2, "a stop token that is text ends nothing"


def test_a_given_beginning_of_plain_text_and_of_transcripts() -> None:
    ((pair,), _) = pairs(PLAIN, plain_row(begun="1. x\n"), prefix="begun")
    assert parts(PLAIN, pair.rejected) == ("Q 1. x\n", f"BB{STOP}")
    talk = {side: f"\n\nHuman: Q\n\nAssistant: {text}" for side, text in (("chosen", "A"), ("rejected", "B"))}
    ((pair,), _) = pairs(PLAIN, {**talk, "begun": "so "}, prefix="begun")
    assert parts(PLAIN, pair.chosen) == ("\n\nHuman: Q\n\nAssistant: so ", f"A{STOP}")


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_beginning_is_the_pair_without_the_option(nothing: str | None) -> None:
    for renderer, row in ((CHAT, chat_row), (PLAIN, plain_row)):
        with_it, without = pairs(renderer, row(begun=nothing), prefix="begun"), pairs(renderer, row(begun=nothing))
        assert with_it[0] == without[0]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (chat_row(), "has no column 'begun', which data.prefix names"),
        (chat_row(begun=3), "has 'begun' of type int, not text"),
        (chat_row(begun="x", chosen=[*said("assistant", "a"), *said("user", "b"), *said("assistant", "c")]),
         "is no prompt with answers of one message"),
    ],
)  # fmt: skip
def test_a_beginning_that_cannot_be_is_a_fault_of_its_row(row: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        pairs(CHAT, row, prefix="begun")


# ---------------------------------------------------------------------------------------------- tokens that count not


def test_named_tokens_count_nowhere_and_the_stop_token_only_if_named() -> None:
    row = plain_row(chosen="A<think>A", rejected="B.B")
    for names, chosen, rejected, left_out in (
        (("<think>",), f"AA{STOP}", f"B.B{STOP}", 1),
        (("<think>", "."), f"AA{STOP}", f"BB{STOP}", 2),
        ((STOP, "<think>"), "AA", "B.B", 3),
    ):
        ((pair,), report) = pairs(PLAIN, row, uncounted=names)
        assert (parts(PLAIN, pair.chosen)[1], parts(PLAIN, pair.rejected)[1]) == (chosen, rejected)
        assert report.uncounted == left_out
        assert f"{left_out} tokens of answers are not counted (data.uncounted)" in report.lines()
        assert pair.chosen.tokens == pairs(PLAIN, row)[0][0].chosen.tokens, "they are still there to be read"


@pytest.mark.parametrize(("text", "many"), [("ab", "2 of them"), ("", "0 of them"), ("<|nothing|>", "11 of them")])
def test_a_text_that_is_not_one_token_is_refused(text: str, many: str) -> None:
    with pytest.raises(ConfigError, match="is not one token of this tokenizer but " + many):
        pairs(PLAIN, plain_row(), uncounted=(text,))


def test_an_answer_of_nothing_else_is_a_fault_of_its_row() -> None:
    rows = [plain_row(), plain_row(chosen="..")]
    with pytest.raises(DataError, match="rows:2 has an answer of nothing but tokens"):
        pairs(PLAIN, *rows, uncounted=(".", STOP))
    found, report = pairs(PLAIN, *rows, uncounted=(".", STOP), max_bad_rows=1)
    assert len(found) == 1 and report.bad == 1


def test_sums_of_policy_and_reference_leave_them_out(tmp_path: Path) -> None:
    policy = load_policy(ModelConfig(path=str(write_model(tmp_path / "a"))), seed=0)
    other = load_policy(ModelConfig(path=str(write_model(tmp_path / "b", initializer_range=0.1))), seed=0).freeze()
    row = plain_row(chosen="<think>A.A", rejected="B")

    def views(**options: Any) -> Views:
        ((pair,), _) = pairs(PLAIN, row, **options)
        batch = pack([Tree(rollouts=(pair.chosen, pair.rejected), pairs=[(0, 1)])])
        reference = token_column(Reference(model=other), batch, "logprobs", budget=99)
        out = policy(batch, frozenset({"logprobs"}))
        return Views(batch=batch.with_columns(token={"reference": reference}), token=out.token)

    every, some = views(), views(uncounted=("<think>", "."))
    kept = torch.tensor([False, True, False, True, True])
    seen, each = some.responses(), every.each()
    assert seen.length.tolist() == [3.0, 2.0] and every.responses().length.tolist() == [5.0, 2.0]
    assert seen.policy is not None and seen.anchor is not None
    torch.testing.assert_close(seen.policy[0], each.policy[0, :5][kept].sum(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(seen.anchor[0], each.anchor[0, :5][kept].sum(), rtol=1e-5, atol=1e-5)
    assert float((seen.policy[0] - each.policy[0].sum()).detach().abs()) > 1


def test_an_answer_that_begins_with_such_a_token_keeps_its_place_behind_another_prompt() -> None:
    """KTO's mismatched twin: the whole answer moves, and the prompt it moves behind brings no token of an answer."""
    rows = [{"prompt": p, "completion": "<think>A", "label": True} for p in ("one ", "two ")]
    config = DataConfig(path="rows", uncounted=("<think>",))
    ratings, _ = dataset.ratings(rows_of(rows), PLAIN, config=config)
    twins, _ = mismatched(ratings)
    assert PLAIN.tokenizer.decode(list(twins[0].tokens)) == f"two <think>A{STOP}"
    assert parts(PLAIN, twins[0]) == ("two ", f"A{STOP}")


@pytest.fixture
def whet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Whet:
    return in_a_users_folder(monkeypatch, capsys, tmp_path)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("grpo", "data=tasks.jsonl", "reward=my.py:good", "data.prefix=begun"), "data.prefix is given, but prompts"),
        (("reward", "data=pairs.jsonl", "data.uncounted=[.]"), "data.uncounted is given, but a reward model counts"),
    ],
)
def test_where_nothing_would_read_them_they_are_refused(whet: Whet, words: tuple[str, ...], part: str) -> None:
    whet("run", words[0], "model=lab:base", *words[1:]).refused(CONFIG, part)
