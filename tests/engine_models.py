"""Tiny random decoders of several families, for the tests of sampling."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from whet.models.policy import Decoder
from whet.models.prove import prove
from whet.types import NoiseKey, Request

SMALL: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

FAMILIES: dict[str, Any] = {
    "llama": lambda: transformers.LlamaConfig(**SMALL),
    "mistral": lambda: transformers.MistralConfig(**SMALL, sliding_window=5),
    "qwen3": lambda: transformers.Qwen3Config(**SMALL, head_dim=8),
    "gemma2": lambda: transformers.Gemma2Config(
        **SMALL, head_dim=8, sliding_window=6, attn_logit_softcapping=3.0, final_logit_softcapping=5.0
    ),
    "gemma3": lambda: transformers.Gemma3TextConfig(**SMALL, head_dim=8, sliding_window=6),
    "gpt_oss": lambda: transformers.GptOssConfig(
        **SMALL, head_dim=8, sliding_window=6, num_local_experts=2, num_experts_per_tok=1
    ),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=61,
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=4,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.3,
    ),
}


def tiny(
    family: str = "llama", *, layout: str = "auto", tokenizer: Any = None, dtype: torch.dtype = torch.float32
) -> Decoder:
    """A decoder with weights from seed 0."""
    torch.manual_seed(0)
    hf = transformers.AutoModelForCausalLM.from_config(FAMILIES[family]()).to(dtype)
    return prove(Decoder(hf, tokenizer=tokenizer), layout)


def ask(prompt: tuple[int, ...], task: str, n: int = 1, seed: int = 0) -> Request:
    """`n` draws after a prompt."""
    return Request(prompt=prompt, key=NoiseKey(seed=seed, stream="test", step=0, task=task), n=n)


def asks(count: int, n: int = 3) -> list[Request]:
    """Requests with prompts of several lengths."""
    return [ask(tuple(1 + (5 * i + 3 * j) % 60 for j in range(1 + i % 7)), f"t{i}", n) for i in range(count)]
