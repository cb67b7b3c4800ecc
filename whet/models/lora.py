"""Low-rank adapters through `peft`: only the factors train, and the model with the adapter off is the reference."""

from __future__ import annotations

import copy
from typing import Any

from whet.errors import MissingExtra, ModelError
from whet.models.config import LoraConfig
from whet.models.policy import Decoder


def add_adapter(decoder: Decoder, config: LoraConfig, *, seed: int) -> Decoder:
    """Put a fresh adapter on the decoder: its first factor is drawn from `seed`, its second is 0, so nothing changes."""
    peft = _peft()
    import torch

    targets = config.targets if isinstance(config.targets, str) else list(config.targets)
    options = peft.LoraConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=targets, bias="none"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            adapter = peft.get_peft_model(decoder.hf, options)
        except ValueError as error:
            raise ModelError(f"lora.targets={config.targets!r} fits no layer of this model: {error}") from error
    return _attach(decoder, adapter)


def load_adapter(decoder: Decoder, folder: str) -> Decoder:
    """Put the saved adapter of a folder on the decoder that it was trained on."""
    return _attach(decoder, _peft().PeftModel.from_pretrained(decoder.hf, folder, is_trainable=True))


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
