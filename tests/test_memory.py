"""Memory of a step, as counts of bytes: linear in the budget, the same for any number of pieces, one gradient."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from memory import most_allocated, saved_bytes
from torch import Tensor

from whet.batch import TokenBatch, Tree, pack
from whet.build.terms import likelihood
from whet.losses import tokens
from whet.losses.tokens import token_logprobs
from whet.models.attention import register
from whet.models.policy import Decoder
from whet.models.recompute import recompute_layers
from whet.registry import Choice
from whet.train.config import OptimConfig
from whet.train.learner import Learner
from whet.train.step import update
from whet.types import Rollout

GROUP = 24
"""Tokens of a group: a prompt of 8 and two answers of 8."""


def groups(count: int) -> TokenBatch:
    def answer(number: int, sibling: int) -> Rollout:
        body = tuple((7 * number + 3 * sibling + i) % 60 for i in range(8))
        return Rollout(
            task_id=str(number),
            tokens=(*(number + i for i in range(8)), *body),
            mask=(False,) * 8 + (True,) * 8,
            source=("prompt",) * 8 + ("sampled",) * 8,
        )

    return pack([Tree(rollouts=[answer(number, sibling) for sibling in range(2)]) for number in range(count)])


def learner(*, width: int = 32, layers: int = 3, recompute: bool = False) -> Learner:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        attn_implementation=register(),
    )
    torch.manual_seed(0)
    model = Decoder(LlamaForCausalLM(config))
    model.layout = "forest"
    if recompute:
        recompute_layers(model.backbone)
    return Learner.of(model, [likelihood(Choice("token_mean"))], OptimConfig(), total=9)


def saved(count: int, *, pieces: int, recompute: bool = False) -> int:
    """The most that a step of so many groups in so many pieces keeps for its backward."""
    made = learner(recompute=recompute)
    with saved_bytes() as meter:
        update({"policy": made}, groups(count), budget=GROUP * count // pieces)
    assert meter.now == 0, "a graph outlived its piece"
    return meter.most


def test_what_a_step_keeps_does_not_grow_with_its_pieces() -> None:
    one = saved(2, pieces=1)
    assert one > 0 and all(saved(2 * n, pieces=n) == pytest.approx(one, rel=0.001) for n in (2, 4))


@pytest.mark.parametrize("recompute", [False, True])
def test_what_a_step_keeps_is_linear_in_its_budget(recompute: bool) -> None:
    two, four, eight = (saved(count, pieces=1, recompute=recompute) for count in (2, 4, 8))
    assert eight - four == pytest.approx(2 * (four - two), rel=0.02)
    assert four == pytest.approx(2 * two, rel=0.05)


def test_recomputing_keeps_a_few_vectors_a_layer_and_token() -> None:
    def per_layer(recompute: bool) -> float:
        found = []
        for layers in (2, 6):
            made = learner(layers=layers, recompute=recompute)
            with saved_bytes() as meter:
                update({"policy": made}, groups(4), budget=10_000)
            found.append(meter.most)
        return (found[1] - found[0]) / 4 / (4 * GROUP) / (32 * 4)  # in vectors of the model's width

    assert per_layer(True) == 1.0 and per_layer(False) > 15


def test_gradients_add_up_without_a_second_copy() -> None:
    made = learner(width=96, layers=4)
    sizes = [p.numel() * p.element_size() for p in made.parameters]
    run = partial(update, {"policy": made})
    run(groups(1), budget=10_000)  # the optimizer's state is made
    whole = most_allocated(lambda: run(groups(6), budget=GROUP))
    assert sum(sizes) < whole < 1.5 * sum(sizes)
    assert most_allocated(lambda: run(groups(6), budget=GROUP)) == pytest.approx(whole, rel=0.01)
    assert most_allocated(lambda: run(groups(1), budget=GROUP)) < whole


# ------------------------------------------------------------------------------------------------------------ the head


def head(count: int, words: int, *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    hidden = torch.randn(count, 16, dtype=dtype, requires_grad=True)
    weight = torch.randn(words, 16, dtype=dtype, requires_grad=True)
    hidden.grad, weight.grad = torch.zeros_like(hidden), torch.zeros_like(weight)
    return hidden, weight, torch.randint(words, (count,))


def test_the_head_holds_one_chunk_and_the_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside one chunk of logits: the gradients, and the ends that autograd adds to those there were."""
    monkeypatch.setattr(tokens, "CHUNK_BYTES", {"cpu": 1 << 18})
    hidden, weight, targets = head(1024, 2048)
    logits = 1024 * 2048 * 4
    found = most_allocated(lambda: token_logprobs(hidden, weight, targets).sum().backward())
    assert found <= 2.1 * (1 << 18) + weight.nbytes + hidden.nbytes + 8 * 4 * 1024
    assert found < 0.15 * logits


def test_a_narrow_heads_gradient_is_summed_and_kept_in_float32() -> None:
    hidden, weight, targets = head(300, 64, dtype=torch.bfloat16)
    weight.grad, weight.grad_dtype = None, torch.float32
    token_logprobs(hidden, weight, targets, chunk=2).sum().backward()
    assert weight.grad is not None and weight.grad.dtype == torch.float32
    assert not torch.equal(weight.grad, weight.grad.bfloat16().float())
    wide = weight.detach().double().requires_grad_()
    token_logprobs(hidden.detach().double(), wide, targets).sum().backward()
    assert wide.grad is not None
    assert (weight.grad - wide.grad).norm() < 0.01 * wide.grad.norm()
