"""On real weights the sampler is as exact as the training forward itself, and writes what it was trained to write."""

from __future__ import annotations

import copy

import pytest
import torch
from engine_models import ask
from paths import need

from whet.batch import Tree, pack
from whet.models.config import LoraConfig, ModelConfig
from whet.models.io import load_policy
from whet.models.policy import Decoder
from whet.rollout.config import SamplingConfig
from whet.rollout.torch_engine import TorchEngine
from whet.types import Completion, Rollout

MODELS = ["stories260K", "babyllama-tok105"]


def policy(name: str, lora: LoraConfig | None = None) -> Decoder:
    return load_policy(ModelConfig(path=str(need(f"data/models/{name}/hf")), lora=lora))


def forward(decoder: Decoder, prompt: tuple[int, ...], drawn: list[Completion], temperature: float) -> torch.Tensor:
    rollouts = [
        Rollout(
            task_id="t",
            tokens=prompt + c.tokens,
            mask=(False,) * len(prompt) + (True,) * len(c.tokens),
            source=("prompt",) * len(prompt) + ("sampled",) * len(c.tokens),
        )
        for c in drawn
    ]
    with torch.no_grad():
        batch = pack([Tree(rollouts=rollouts)])
        return decoder(batch, frozenset({"logprobs"}), temperature=temperature).token["logprobs"]


@pytest.mark.parametrize("name", MODELS)
def test_it_is_as_exact_as_the_training_forward(name: str) -> None:
    decoder = policy(name)
    prompt = tuple(decoder.tokenizer.encode("Once upon a time"))
    for temperature in (1.0, 0.6):
        sampler = TorchEngine(decoder, SamplingConfig(max_new_tokens=40, temperature=temperature), decoder.stop_ids)
        drawn = sampler.sample([ask(prompt, "t", n=12)])[0]
        ours = torch.tensor([x for c in drawn for x in c.logprobs])
        theirs = forward(decoder, prompt, drawn, temperature)
        double = copy.deepcopy(decoder)
        double.hf.double()
        exact = forward(double, prompt, drawn, temperature)
        assert (ours - theirs).abs().mean() < 2e-6
        assert (ours - exact).abs().mean() < 3 * (theirs - exact).abs().mean()
        assert (ours - theirs).abs().max() < 4e-5


def test_stories_are_told_in_words() -> None:
    decoder = policy("stories260K")
    prompt = tuple(decoder.tokenizer.encode("Once upon a time"))
    sampling = SamplingConfig(max_new_tokens=50, temperature=0.7, top_p=0.9)
    drawn = TorchEngine(decoder, sampling, decoder.stop_ids).sample([ask(prompt, "t", n=8)])[0]
    assert sum(" was " in c.text or " a " in c.text for c in drawn) >= 6
    assert len({c.text for c in drawn}) == 8


def test_an_adapter_is_sampled_as_it_is_trained() -> None:
    decoder = policy("stories260K", LoraConfig(rank=4))
    with torch.no_grad():
        for name, value in decoder.named_parameters():
            if "lora_B" in name:
                value.normal_(0, 0.02)
    prompt = tuple(decoder.tokenizer.encode("Tom was"))
    drawn = TorchEngine(decoder, SamplingConfig(max_new_tokens=20), decoder.stop_ids).sample([ask(prompt, "t", n=8)])[0]
    ours = torch.tensor([x for c in drawn for x in c.logprobs])
    assert torch.allclose(ours, forward(decoder, prompt, drawn, 1.0), atol=4e-5)
