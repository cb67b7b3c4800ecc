"""What would silently go wrong as a forest is found at load, by the reason it is wrong for."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.families import tiny
from whet.errors import ModelError
from whet.models.policy import Decoder
from whet.models.prove import ForestUnsupported, prove


def test_a_layer_that_keeps_its_own_attention():
    hf = tiny("llama")
    stubborn = hf.model.layers[1].self_attn
    stubborn.config = copy.deepcopy(stubborn.config)
    model = prove(Decoder(hf))
    assert model.layout == "padded"
    assert "1 of 2 layers of LlamaForCausalLM did not ask the forest's attention" in model.layout_reason


def test_a_window_that_only_the_mask_knew():
    hf = tiny("qwen2-sliding")
    assert hf.config.layer_types == ["full_attention", "sliding_attention"]
    hf.model.layers[1].self_attn.sliding_window = None
    model = prove(Decoder(hf))
    assert model.layout_reason == (
        "layer 1 of Qwen2ForCausalLM is sliding_attention with window 6, but named None to its attention"
    )


def test_state_along_the_sequence_that_no_name_gives_away():
    hf = tiny("llama")

    def mix(_module, _inputs, output):
        return output + torch.nn.functional.pad(output, (0, 0, 1, 0))[:, :-1]

    hf.model.layers[0].mlp.register_forward_hook(mix)
    model = prove(Decoder(hf))
    assert model.layout == "padded" and "other hidden states as a forest" in model.layout_reason
    with pytest.raises(ForestUnsupported, match="other hidden states"):
        prove(model, "forest")


def test_a_layer_whose_name_says_it_carries_state():
    class ShortConv(torch.nn.Identity):
        pass

    hf = tiny("llama")
    hf.model.layers[0].mlp.act_fn = torch.nn.Sequential(hf.model.layers[0].mlp.act_fn, ShortConv())
    model = prove(Decoder(hf))
    assert "carries state along the sequence" in model.layout_reason and "ShortConv" in model.layout_reason


def test_attention_in_both_directions_serves_nowhere():
    hf = tiny("gemma3")
    hf.config.use_bidirectional_attention = True
    for layer in hf.model.layers:
        layer.self_attn.is_causal = False
    with pytest.raises(ModelError, match="see what comes after it, so it is no causal decoder"):
        prove(Decoder(hf))


def test_a_head_that_is_not_what_the_configuration_says():
    hf = tiny("llama")
    hf.lm_head.register_forward_hook(lambda _module, _inputs, logits: 2 * logits)
    with pytest.raises(ModelError, match="not a linear head with the scale and soft-cap"):
        prove(Decoder(hf))


def test_a_layout_that_was_asked_for():
    assert prove(Decoder(tiny("llama")), "padded").layout_reason == "asked for"
    assert prove(Decoder(tiny("llama")), "forest").layout_reason == "proved on a canary batch"
