"""Layers computed again in the backward give the same bits, from fewer kept bytes, wherever they stand."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import tiny as made_up
import torch
from families import tiny
from torch import Tensor, nn

from whet.batch import TokenBatch, Tree, pack
from whet.errors import ModelError
from whet.models.config import LoraConfig, ModelConfig
from whet.models.io import load_policy
from whet.models.lora import add_adapter
from whet.models.policy import Decoder
from whet.models.prove import prove
from whet.models.recompute import recompute_layers

CASES = {
    "llama": ("llama", "forest", False),
    "padded": ("llama", "padded", False),
    "windows and soft-caps": ("gemma2", "forest", False),
    "experts": ("qwen3-moe", "forest", False),
    "sinks": ("gpt-oss", "forest", False),
    "adapter": ("llama", "forest", True),
    "adapter, padded": ("qwen2", "padded", True),
}


def batch() -> TokenBatch:
    rng = random.Random(0)
    trees = []
    for _ in range(3):
        prompt = made_up.prompt(rng)
        trees.append(Tree(rollouts=[made_up.rollout(rng, prompt, rng.randint(2, 6)) for _ in range(2)]))
    return pack(trees)


def model(family: str, layout: str, adapter: bool) -> Decoder:
    decoder = prove(Decoder(tiny(family)), layout)
    assert decoder.layout == layout
    return add_adapter(decoder, LoraConfig(rank=2), seed=0) if adapter else decoder


def learned(decoder: Decoder) -> tuple[Tensor, dict[str, Tensor], int]:
    """(log-probabilities, gradients, bytes that the forward keeps beside the parameters)."""
    own = {p.untyped_storage().data_ptr() for p in decoder.parameters()}
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        logprobs = decoder(batch(), frozenset({"logprobs"})).token["logprobs"]
    found = sum(kept.values())
    (logprobs * torch.arange(1.0, 1 + logprobs.numel())).sum().backward()
    slopes = {name: p.grad for name, p in decoder.named_parameters() if p.grad is not None}
    decoder.zero_grad(set_to_none=True)
    return logprobs.detach(), slopes, found


@pytest.mark.parametrize("case", CASES)
def test_the_same_bits_from_fewer_kept_bytes(case: str) -> None:
    decoder = model(*CASES[case])
    value, slopes, plain = learned(decoder)
    assert recompute_layers(decoder.backbone) == decoder.config.num_hidden_layers
    again, same_slopes, less = learned(decoder)
    assert torch.equal(value, again) and slopes.keys() == same_slopes.keys()
    assert all(torch.equal(slopes[name], same_slopes[name]) for name in slopes)
    assert less < 0.6 * plain, (less, plain)  # two layers only: the head and the final norm keep their share


def test_a_copy_computes_with_its_own_weights() -> None:
    decoder = model("llama", "forest", False)
    recompute_layers(decoder.backbone)
    before = learned(decoder)[0]
    twin = decoder.frozen_copy()
    with torch.no_grad():
        for p in decoder.parameters():
            p.mul_(0.5)
    twin.requires_grad_(True)
    assert torch.equal(learned(twin)[0], before) and not torch.equal(learned(decoder)[0], before)


def test_without_gradients_layers_run_once() -> None:
    decoder = model("llama", "forest", False)
    recompute_layers(decoder.backbone)
    calls: list[str] = []
    first: Any = next(m for m in decoder.backbone.modules() if isinstance(m, nn.Linear))
    first.register_forward_hook(lambda *_: calls.append("run"))
    with torch.no_grad():
        decoder(batch(), frozenset({"logprobs"}))
    assert len(calls) == 1
    learned(decoder)
    assert len(calls) == 3


def test_a_family_without_known_layers_is_refused() -> None:
    with pytest.raises(ModelError, match=r"model\.recompute=true: Sequential does not say which"):
        recompute_layers(nn.Sequential(nn.Linear(2, 2)))


def test_the_option_reaches_a_loaded_model_and_its_bits_stay(tmp_path: Path) -> None:
    from loop_cases import save_tiny_model

    save_tiny_model(tmp_path)
    plain, again = (load_policy(ModelConfig(path=str(tmp_path), recompute=on)) for on in (False, True))
    assert plain.fingerprint() == again.fingerprint() and list(plain.state_dict()) == list(again.state_dict())
    assert learned(again)[2] < learned(plain)[2]
