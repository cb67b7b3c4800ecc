"""Tiny random models of many families, their weights large enough that attention matters."""

from __future__ import annotations

from typing import Any

import torch

LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 40,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
WIDE = {**LLAMA, "head_dim": 8}
SLIDING = {**WIDE, "sliding_window": 6}
MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", LLAMA),
    "llama-tied-biased": ("Llama", {**LLAMA, "tie_word_embeddings": True, "attention_bias": True}),
    "mistral": ("Mistral", SLIDING),
    "qwen2": ("Qwen2", LLAMA),
    "qwen2-sliding": ("Qwen2", {**LLAMA, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}),
    "qwen3": ("Qwen3", WIDE),
    "qwen3-moe": ("Qwen3Moe", {**WIDE, **MOE, "num_experts": 4}),
    "gemma": ("Gemma", WIDE),
    "gemma2": ("Gemma2", {**SLIDING, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    "gemma3": ("Gemma3Text", {**SLIDING, "num_hidden_layers": 3, "sliding_window_pattern": 2}),
    "gpt2": ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 40}),
    "phi": ("Phi", LLAMA),
    "phi3": ("Phi3", {**LLAMA, "sliding_window": 6}),
    "olmo2": ("Olmo2", LLAMA),
    "gpt-neox": ("GPTNeoX", {**LLAMA, "rotary_pct": 0.5}),
    "opt": ("OPT", {**LLAMA, "ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.1}),
    "granite": ("Granite", {**LLAMA, "logits_scaling": 2.0, "attention_multiplier": 0.3, "residual_multiplier": 0.7}),
    "cohere": ("Cohere", {**LLAMA, "logit_scale": 0.5}),
    "smollm3": ("SmolLM3", LLAMA),
    "starcoder2": ("Starcoder2", {**LLAMA, "sliding_window": 6}),
    "mixtral": ("Mixtral", {**WIDE, "num_local_experts": 4, "sliding_window": None}),
    "gpt-oss": ("GptOss", {**SLIDING, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "glm4": ("Glm4", WIDE),
    "deepseek-v3": (
        "DeepseekV3",
        {
            **LLAMA,
            **MOE,
            "num_key_value_heads": 4,
            "n_routed_experts": 4,
            "n_group": 1,
            "topk_group": 1,
            "q_lora_rank": 8,
            "kv_lora_rank": 8,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 12,
        },
    ),
    "exaone4": ("Exaone4", {**SLIDING, "sliding_window_pattern": 2}),
}
"""Families that train as a forest."""

PADDED: dict[str, tuple[str, dict[str, Any]]] = {
    "stablelm": ("StableLm", LLAMA),
    "falcon": ("Falcon", {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 40}),
    "bloom": ("Bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 40}),
    "mamba": ("Mamba", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "vocab_size": 40}),
    "lfm2": ("Lfm2", {**LLAMA, "full_attn_idxs": [1], "layer_types": ["conv", "full_attention"]}),
    "qwen3-next": (
        "Qwen3Next",
        {
            **WIDE,
            **MOE,
            "num_experts": 4,
            "shared_expert_intermediate_size": 16,
            "linear_num_value_heads": 2,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "layer_types": ["linear_attention", "full_attention"],
        },
    ),
}
"""Families that cannot: they ignore the replaced attention or its keywords, or carry state along the sequence."""


def tiny(family: str, *, dtype: torch.dtype = torch.float32, seed: int = 0, kind: str = "ForCausalLM") -> Any:
    """A random model of the family, in evaluation mode."""
    import transformers

    name, options = {**FAMILIES, **PADDED}[family]
    torch.manual_seed(seed)
    config = getattr(transformers, f"{name}Config")(**options)
    auto = getattr(transformers, f"AutoModel{kind}")
    hf = auto.from_config(config).to(dtype)
    hf.set_experts_implementation("eager")  # the fused one has no float64
    with torch.no_grad():
        for value in hf.parameters():
            value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(seed)).to(dtype) * 0.15)
    return hf.eval()
