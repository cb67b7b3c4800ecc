"""The limit counts what a forest must compute, as by hand and as torch counts it in the real passes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks import limit
from benchmarks.limit import Group
from benchmarks.rate import machine
from benchmarks.workloads import SHAPES, Shape, workloads

TOY = Shape(layers=2, width=4, heads=1, inner=8, vocabulary=10)
"""A block of 4·16 + 3·32 = 160 weights."""


def test_a_forward_by_hand() -> None:
    groups = [Group(prompt=3, responses=(2, 1)), Group(prompt=0, responses=(2,))]
    # tokens 6 + 2; pairs: prompt 1+2+3, responses (4 + 5) and 4, text 1 + 2
    assert [group.tokens for group in groups] == [6, 2] and [group.pairs for group in groups] == [19, 3]
    blocks, attention, head = 2 * 320 * 8, 4 * 4 * 2 * 22, 2 * 4 * 10 * 5
    assert limit.forward(TOY, groups, counted=5, outputs=10) == blocks + attention + head


def test_training_by_hand() -> None:
    rows = workloads(small=True)
    sft = replace(rows["sft-equal"], shape=TOY, rows=2, mean=3, cap=3)
    once = 2 * 320 * 6 + 32 * 12 + 80 * 4  # the first token of a text is not predicted
    assert limit.training(sft, limit.forest(sft)) == 3 * once
    dpo = replace(rows["dpo-live-equal"], shape=TOY, rows=1, prompt=2, mean=3)
    once = 2 * 320 * 8 + 32 * (3 + 2 * (3 + 4 + 5)) + 80 * 6
    assert limit.forest(dpo) == [Group(prompt=2, responses=(3, 3))]
    assert limit.training(dpo, limit.forest(dpo)) == 4 * once
    assert limit.training(replace(dpo, cached=True), limit.forest(dpo)) == 3 * once
    reward = replace(rows["reward-equal"], shape=TOY, rows=1, prompt=2, mean=3)
    assert limit.training(reward, limit.forest(reward)) == 3 * (2 * 320 * 8 + 32 * 27 + 2 * 4 * 2)
    grpo = replace(rows["grpo-equal"], shape=TOY, rows=1, group=2, prompt=2, mean=3)
    groups = limit.forest(grpo, [[3, 3]])
    assert limit.training(replace(grpo, kl=0.1), groups) == 4 * once == limit.training(grpo, groups) // 3 * 4


def test_sampling_by_hand() -> None:
    groups = [Group(prompt=3, responses=(3, 1))]
    # fed: 3 of the prompt, 2 of the first response (the fourth and fifth token), none of the second; logits 1 + 2
    assert limit.sampling(TOY, groups) == 2 * 320 * 5 + 32 * (6 + 4 + 5) + 80 * 3
    # two steps, each all weights; own keys 1 + 2, the prompt's 3 twice
    assert limit.traffic(TOY, groups, slots=2) == 4 * (2 * (320 + 40) + 2 * 4 * 2 * (3 + 6))
    two = [Group(prompt=3, responses=(3, 3)), Group(prompt=5, responses=(2,))]
    # one slot: 2 + 2 + 1 steps, the first prompt for four and the second for one
    assert limit.traffic(TOY, two, slots=1) == 4 * (5 * 360 + 16 * (3 + 3 + 1 + 3 * 4 + 5))
    # all at once: 2 steps, and a group's prompt is read once a step for both of its responses
    assert limit.traffic(TOY, two, slots=8) == 4 * (2 * 360 + 16 * (3 + 3 + 1 + 3 * 2 + 5))


def test_the_limit_is_operations_over_rate_and_bytes_over_bandwidth() -> None:
    grpo = replace(workloads(small=True)["grpo"], shape=TOY)
    groups = limit.forest(grpo, [[3, 2]])
    parts = limit.least(grpo, [[3, 2]], rate=10.0, bandwidth=4.0)
    moved = limit.traffic(TOY, groups, slots=64) / 4
    assert parts.sampling == limit.sampling(TOY, groups) / 10 + moved
    assert parts.seconds - parts.sampling == pytest.approx(limit.training(grpo, groups) / 10)
    assert limit.least(replace(grpo, kind="sample"), [[3, 2]], rate=1.0, bandwidth=1.0).training == 0.0
    assert limit.least(workloads()["sft"], (), rate=1.0, bandwidth=1.0).sampling == 0.0


def test_the_formula_is_what_torch_counts_for_plain_texts() -> None:
    """One text, eager attention: equal, but that a dense kernel computes the pairs above the diagonal too."""
    shape, length = SHAPES["tiny"], 24
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        attn_implementation="eager",
    )
    model = LlamaForCausalLM(config)
    with FlopCounterMode(display=False) as counter:
        logits = model(torch.randint(2, shape.vocabulary, (1, length))).logits
    group = Group(prompt=0, responses=(length,))
    above = 4 * shape.width * shape.layers * (length**2 - group.pairs)
    once = limit.forward(shape, [group], counted=length, outputs=shape.vocabulary)
    assert counter.get_total_flops() == once + above
    with FlopCounterMode(display=False) as counter:
        logits.sum().backward()
    assert counter.get_total_flops() == 2 * (once + above)


def test_the_machine_has_a_rate_and_a_bandwidth() -> None:
    found = machine(SHAPES["tiny"])
    assert found["rate"] == max(found["mm rate"], found.get("linear rate", 0.0)) > 1e8
    assert found["bandwidth"] > 1e8
