"""Low-rank adapters through `peft`: only the factors train, and the model with the adapter off is the reference."""

from __future__ import annotations

import copy
from typing import Any

import torch

from whet.errors import MissingExtra, ModelError
from whet.models.config import LoraConfig
from whet.models.policy import Decoder
from whet.words import listed


def add_adapter(decoder: Decoder, config: LoraConfig, *, seed: int) -> Decoder:
    """A fresh adapter on the decoder: one factor is drawn from `seed`, the other is 0, so nothing changes yet."""
    peft = _peft()
    targets = config.targets if isinstance(config.targets, str) else list(config.targets)
    options = peft.LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=targets, bias="none")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            adapter = peft.get_peft_model(decoder.hf, options)
        except ValueError as error:
            raise ModelError(f"lora.targets={config.targets!r} fits no layer of this model: {error}") from error
    if hasattr(decoder.hf.get_output_embeddings(), "base_layer"):
        raise ModelError(f"lora.targets={config.targets!r} names the language-model head, which takes no adapter here")
    return _attach(decoder, adapter)


def load_adapter(decoder: Decoder, folder: str, config: LoraConfig | None = None) -> Decoder:
    """Put the saved adapter of a folder on the decoder that it was trained on; `config` must not ask for another."""
    adapter = _peft().PeftModel.from_pretrained(decoder.hf, folder, is_trainable=True)
    saved = adapter.active_peft_config
    if config is not None and (config.rank, config.alpha) != (saved.r, saved.lora_alpha):
        raise ModelError(
            f"{folder} holds an adapter of rank {saved.r} and alpha {saved.lora_alpha}, but lora asks for rank "
            f"{config.rank} and alpha {config.alpha}; leave lora out to go on with it, or save it merged first"
        )
    if config is not None and not isinstance(config.targets, str) and {*config.targets} != {*saved.target_modules}:
        raise ModelError(
            f"{folder} holds an adapter of {listed(sorted(saved.target_modules))}, but lora.targets asks for "
            f"{listed(config.targets)}; leave lora out to go on with it, or save it merged first"
        )
    return _attach(decoder, adapter)


def merged(decoder: Decoder) -> Any:
    """A copy of the wrapped model with the adapter added into its weights; the decoder itself keeps its bits."""
    return copy.deepcopy(decoder.adapter).merge_and_unload()


def _attach(decoder: Decoder, adapter: Any) -> Decoder:
    """Not a submodule: its weights live in `hf` already, and would stand in the state twice."""
    object.__setattr__(decoder, "adapter", adapter)
    decoder.eval()
    return decoder


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise MissingExtra("peft", extra="lora", why="lora trains adapters") from error
    return peft
