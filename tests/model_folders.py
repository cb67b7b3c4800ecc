"""Small model folders on disk, as `save_pretrained` writes them, and batches to run through them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from tests.tiny_tokenizer import tiny_tokenizer
from whet.batch import TokenBatch, Tree, pack
from whet.types import Rollout

ROWS = 280
LLAMA: dict[str, Any] = {
    "vocab_size": ROWS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 3,
    "pad_token_id": 0,
}


def write_model(
    folder: Path, *, family: str = "Llama", kind: str = "ForCausalLM", tokenizer: Any = None, **changes: Any
) -> Path:
    """A random model with a byte tokenizer; returns the folder."""
    config = getattr(transformers, f"{family}Config")(**{**LLAMA, **changes})
    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    getattr(transformers, f"AutoModel{kind}").from_config(config).save_pretrained(folder)
    (tokenizer if tokenizer is not None else tiny_tokenizer()).save_pretrained(folder)
    return folder


def rollout(prompt: tuple[int, ...], answer: tuple[int, ...]) -> Rollout:
    return Rollout(
        task_id="t",
        tokens=prompt + answer,
        mask=(False,) * len(prompt) + (True,) * len(answer),
        source=("prompt",) * len(prompt) + ("sampled",) * len(answer),
    )


def some_rollouts() -> list[Rollout]:
    return [rollout((10, 11, 12), (20, 21, 3)), rollout((10, 11, 12), (22, 3)), rollout((13,), (23, 24, 25, 26, 3))]


def some_batch() -> TokenBatch:
    first, second, third = some_rollouts()
    labels = [[(4, 1.0)], [], [(2, 0.0), (5, 1.0)]]
    return pack([Tree(rollouts=[first, second], labels=labels[:2]), Tree(rollouts=[third], labels=labels[2:])])
