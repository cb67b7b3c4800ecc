"""The embedded base model opens as an ordinary folder, stops where it should, and has the head-room it claims."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from whet.errors import ConfigError
from whet.lab import base_model_path
from whet.lab.data import tasks
from whet.lab.measure import answers, head_room
from whet.lab.tokenizer import END_OF_TURN, EOS, vocabulary
from whet.lab.train_base import RATE, SHARES, Settings, base_config

RECORD: dict[str, Any] = json.loads((base_model_path() / "training.json").read_text())


@pytest.fixture(scope="module")
def base() -> tuple[Any, Any]:
    path = base_model_path()
    return AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)


def test_the_weights_have_the_shape_the_script_builds(base: tuple[Any, Any]) -> None:
    model, tokenizer = base
    assert 300_000 <= model.num_parameters() == RECORD["parameters"] <= 450_000
    assert model.config.head_dim == base_config().head_dim == 32
    assert model.config.max_position_embeddings >= 256
    assert model.dtype == torch.float32
    assert [tokenizer.convert_ids_to_tokens(i) for i in range(len(vocabulary()))] == vocabulary()


def test_the_record_is_of_the_script_s_own_settings() -> None:
    assert RECORD["settings"] == {name: getattr(Settings(), name) for name in Settings.__slots__}
    assert RECORD["shares"] == SHARES


def test_generation_stops_at_either_end_and_cuts_no_token_off(base: tuple[Any, Any]) -> None:
    model, tokenizer = base
    stops = {tokenizer.convert_tokens_to_ids(END_OF_TURN), tokenizer.convert_tokens_to_ids(EOS)}
    assert set(model.generation_config.eos_token_id) == stops
    assert model.generation_config.top_k == 0


def test_there_is_room_above_the_base_model_in_every_world() -> None:
    reached = RECORD["head_room"]
    for name in SHARES:
        assert reached[name]["spread"] > 0.2, name
        assert reached[name]["pass@8"] > 2 * reached[name]["pass@1"], name
    assert 0.2 <= reached["math"]["pass@1"] <= 0.6


@pytest.mark.parametrize("name", ["chat", "math"])
def test_a_small_sample_agrees_with_the_recorded_head_room(base: tuple[Any, Any], name: str) -> None:
    seen = head_room(*base, name, n=60, k=8, seed=1)
    recorded = RECORD["head_room"][name]
    assert seen["gold"] == pytest.approx(recorded["gold"], abs=0.15 if name == "math" else 0.35)
    assert seen["spread"] == pytest.approx(recorded["spread"], abs=0.2)


def test_answers_are_words_of_the_world_and_end(base: tuple[Any, Any]) -> None:
    asked = tasks("chat", "test", 8)
    said = [text for texts in answers(*base, asked, seed=0) for text in texts]
    assert len(said) == 8
    assert all(1 < len(text.split()) < 40 for text in said)


def votes(base: tuple[Any, Any], prompt: str, answer: str) -> float:
    model, tokenizer = base
    scores = [tokenizer.convert_tokens_to_ids(f"{score}/10") for score in range(1, 11)]
    text = f"<bos><user>{prompt}<end><assistant>{answer}<end>{RATE}"
    with torch.no_grad():
        last = model(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).logits[0, -1, scores].softmax(-1)
    return float(last @ torch.arange(1.0, 11.0))


def test_the_base_model_can_rate_an_answer_when_asked(base: tuple[Any, Any]) -> None:
    prompt = "Tell me about cats in a friendly way. Mention milk and sleep."
    good = votes(base, prompt, "Hi friend! Cats love milk and need sleep. See you soon!")
    bad = votes(base, prompt, "Dear reader, They love gold, love gold and keep gold. How great is that")
    assert good > bad + 1.0


def test_an_unknown_embedded_model_is_named_with_what_there_is() -> None:
    with pytest.raises(ConfigError, match="choose one of base"):
        base_model_path("bas")
