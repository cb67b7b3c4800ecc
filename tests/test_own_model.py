"""The journey most users come for: their own model, data and reward, with a real tokenizer and its chat template."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from paths import need
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, Qwen2Config, Qwen2ForCausalLM

import whet

SCORE = '''
def score(prompts, completions, answer, **columns):
    """Longer answers that hold a digit of the solution."""
    texts = [c[0]["content"] if isinstance(c, list) else c for c in completions]
    return [len(set(text)) / 100 + float(any(d in text for d in str(a)[-2:])) for text, a in zip(texts, answer)]
'''


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2-shaped folder, GSM8K rows in each layout, and my.py."""
    tokenizer, gsm8k = need("data/tokenizers/minimind"), need("data/gsm8k/train.jsonl")
    folder = tmp_path_factory.mktemp("own")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=6400,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        eos_token_id=2,
        bos_token_id=1,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder / "model" / name)
    rows = [json.loads(line) for line in gsm8k.read_text().splitlines()[:8]]
    asked = [[{"role": "user", "content": row["question"]}] for row in rows]
    said = [[{"role": "assistant", "content": row["answer"]}] for row in rows]
    wrong = [[{"role": "assistant", "content": "I do not know."}] for _ in rows]
    layouts = {
        "prompts": [{"prompt": p, "answer": r["answer"].split("#### ")[1]} for p, r in zip(asked, rows, strict=True)],
        "chats": [{"messages": p + a} for p, a in zip(asked, said, strict=True)],
        "pairs": [{"prompt": p, "chosen": a, "rejected": b} for p, a, b in zip(asked, said, wrong, strict=True)],
    }
    for name, made in layouts.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    (folder / "my.py").write_text(SCORE)
    return folder


DATA = {"sft": "chats", "reward": "pairs", "dpo": "pairs", "ppo": "prompts", "grpo": "prompts"}


@pytest.mark.parametrize("lora", [False, True], ids=["whole", "lora"])
@pytest.mark.parametrize("name", DATA)
def test_one_step_saved_and_reopened(name: str, lora: bool, own: Path, tmp_path: Path) -> None:
    online = name in ("ppo", "grpo")
    options = (
        {"reward": f"{own / 'my.py'}:score", "prompts": 2, "group": 2, "max_new_tokens": 6} if online else {"batch": 2}
    )
    run = whet.run(
        name,
        model=own / "model",
        data=own / f"{DATA[name]}.jsonl",
        lora=lora,
        steps=1,
        out=tmp_path / "run",
        **{"data.holdout": 0.25, "optim.lr": 1e-3, **options},
    )
    row = next(run.rows("metrics"))
    assert row["step"] == 1 and row.get("policy/grad_norm", row.get("reward/grad_norm")) > 0
    files = {path.name for path in run.model.iterdir()}
    assert {"tokenizer.json", "tokenizer_config.json"} <= files
    if lora:
        assert "adapter_model.safetensors" in files
        if name == "reward":
            return
        again = whet.run(
            "sft", model=run.model, data=own / "chats.jsonl", steps=1, out=tmp_path / "again", **{"data.holdout": 0}
        )
        assert again.model.is_dir()
        return
    opened = AutoModelForSequenceClassification if name == "reward" else AutoModelForCausalLM
    opened.from_pretrained(run.model)
    assert not any("optimizer" in file for file in files)
