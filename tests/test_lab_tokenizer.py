"""The tokenizer gives text back, its reserved names are single tokens, and the template only ever appends."""

from __future__ import annotations

from random import Random

import pytest

from whet.lab.data import tasks
from whet.lab.tokenizer import JSON, SCORES, SPARES, TAGS, VERDICTS, build_tokenizer, vocabulary
from whet.lab.train_base import conversation
from whet.lab.worlds import WORLDS

TOKENIZER = build_tokenizer()
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"a": "number"}}}]


def ids_of(text: str) -> list[int]:
    return TOKENIZER(text)["input_ids"]  # type: ignore[return-value]


@pytest.mark.parametrize("name", WORLDS)
def test_every_world_reads_back_as_written_without_unknown_words(name: str) -> None:
    for task in tasks(name, "train", 100):
        for text in (task.prompt_text, WORLDS[name].write(task, Random(task.id), 0.3)):
            ids = ids_of(text)
            assert TOKENIZER.decode(ids) == text
            assert TOKENIZER.unk_token_id not in ids


def test_any_ids_at_all_survive_decoding() -> None:
    rng = Random(0)
    for _ in range(500):
        ids = [rng.randrange(len(vocabulary())) for _ in range(rng.randint(1, 12))]
        assert ids_of(TOKENIZER.decode(ids)) == ids


def test_reserved_names_are_single_tokens_and_stop_tokens_differ() -> None:
    for token in (*VERDICTS, *SCORES, *TAGS, *JSON, *SPARES, "<user>", "<system>", "<assistant>", "<tool>"):
        assert len(ids_of(token)) == 1, token
    ends = {TOKENIZER.bos_token_id, TOKENIZER.eos_token_id, TOKENIZER.pad_token_id, *ids_of("<end>")}
    assert len(ends) == 4
    assert len(SPARES) == 32
    assert len(vocabulary()) <= 512


def test_tags_stay_visible_and_roles_do_not_when_special_tokens_are_skipped() -> None:
    ids = ids_of("<assistant><think> 3 </think> <answer> 12 </answer><end>")
    assert TOKENIZER.decode(ids, skip_special_tokens=True) == "<think> 3 </think> <answer> 12 </answer>"


def render(messages: list[dict[str, object]], **options: object) -> str:
    return TOKENIZER.apply_chat_template(messages, tokenize=False, **options)  # type: ignore[arg-type,return-value]


ADD = {"type": "function", "function": {"name": "add", "arguments": {"a": "3"}}}
CALL: dict[str, object] = {"role": "assistant", "content": "", "tool_calls": [ADD]}
TALK: list[dict[str, object]] = [
    {"role": "user", "content": "What is 3 + 4?"},
    CALL,
    {"role": "tool", "content": "7"},
    {"role": "assistant", "content": "7"},
    {"role": "user", "content": "Thank you."},
    {"role": "assistant", "content": "Yes"},
]


@pytest.mark.parametrize("system", [True, False])
@pytest.mark.parametrize("tools", [None, TOOLS])
def test_more_messages_only_append(system: bool, tools: object) -> None:
    talk = [{"role": "system", "content": "You are a helpful assistant."}, *TALK] if system else TALK
    for upto in range(1 + system, len(talk)):
        prompt = render(talk[:upto], tools=tools, add_generation_prompt=talk[upto]["role"] == "assistant")
        assert render(talk[: upto + 1], tools=tools).startswith(prompt)


def test_the_mask_covers_what_the_assistant_wrote_with_its_end_and_nothing_else() -> None:
    made = TOKENIZER.apply_chat_template(TALK, return_dict=True, return_assistant_tokens_mask=True)  # type: ignore[arg-type]
    written = [i for i, m in zip(made["input_ids"], made["assistant_masks"], strict=True) if m]  # type: ignore[index]
    told = TOKENIZER.decode(written)
    assert told.count("<end>") == 3
    assert "add" in told
    assert "<user>" not in told
    assert "<assistant>" not in told


def test_tools_are_shown_to_the_model() -> None:
    assert '"add"' in render(TALK, tools=TOOLS)
    assert render(TALK, tools=TOOLS).startswith("<bos><system>")
    assert render(TALK).startswith("<bos><user>")


def test_the_base_models_training_text_is_the_template_s() -> None:
    task = tasks("chat", "train", 1)[0]
    for system in (True, False):
        text = "".join(part for part, _ in conversation([(task, "Cats love milk.")], system=system))
        talk = [{"role": "system", "content": "You are a helpful assistant."}] * system
        talk += [*task.messages, {"role": "assistant", "content": "Cats love milk."}]  # type: ignore[list-item]
        assert render(talk) == text  # type: ignore[arg-type]
