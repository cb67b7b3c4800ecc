"""Models that cannot serve: one clear sentence that says what is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from bad_input import DPO, MODEL, SFT, in_a_users_folder
from console import Whet

from whet.lab import base_model_path


@pytest.fixture
def whet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Whet:
    return in_a_users_folder(monkeypatch, capsys, tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the embedded model that may be broken."""
    return Path(shutil.copytree(base_model_path(), tmp_path / "model"))


def without(file: Path, *names: str) -> None:
    known = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in known.items() if key not in names}))


def test_a_tokenizer_without_stop(whet: Whet, folder: Path) -> None:
    without(folder / "tokenizer_config.json", "eos_token")
    without(folder / "generation_config.json", "eos_token_id")
    words = [word.replace("lab:base", "model") for word in SFT]
    whet(*words).refused(MODEL, "model names no stop token", "set eos_token", "eos_token_id")
    assert whet(*words, "steps=1", "model.stop=<eos>").code == 0
    whet(*words, "model.stop=<eoss>").refused(MODEL, "model.stop is '<eoss>', which the vocabulary of model lacks")


def test_a_tokenizer_without_template(whet: Whet, folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    words = [word.replace("lab:base", "model") for word in SFT]
    whet(*words).refused(MODEL, "no chat template", "plain text", "chat_template.jinja")
    assert whet("run", "dpo", "model=model", *DPO[3:]).code == 0, "plain text needs none"


@pytest.mark.parametrize("recipe", ["sft", "reward"])
def test_a_tokenizer_without_padding_is_none_the_worse(whet: Whet, folder: Path, recipe: str) -> None:
    """Nothing is padded; a saved reward model gets a token of its own for those who pad."""
    without(folder / "tokenizer_config.json", "pad_token")
    without(folder / "generation_config.json", "pad_token_id")
    without(folder / "config.json", "pad_token_id")
    said = whet("run", recipe, "model=model", "data=pairs.jsonl", "data.holdout=0", "steps=1", "model.layout=padded")
    assert said.code == 0, said.err
    if recipe == "reward":
        from transformers import AutoTokenizer

        saved = AutoTokenizer.from_pretrained(next(Path("runs").rglob("final")))
        assert saved.pad_token is not None and saved.pad_token_id != saved.eos_token_id


@pytest.mark.parametrize(
    ("file", "data", "part"),
    [
        ("model.safetensors", b"\x10\x00", "the weights of model cannot be loaded"),
        ("config.json", b"{", "the configuration of model cannot be read"),
        ("config.json", b'{"model_type": "vit"}', "model is a vit, which is no language model"),
        ("tokenizer.json", b"{", "model has no tokenizer that can be loaded"),
    ],
)
def test_a_folder_that_is_no_model(whet: Whet, folder: Path, file: str, data: bytes, part: str) -> None:
    (folder / file).write_bytes(data)
    whet("run", "sft", "model=model", *SFT[3:]).refused(MODEL, part)


def test_a_chat_with_no_model(whet: Whet) -> None:
    whet("chat", "nomodel").refused(MODEL, "nomodel is no folder")
