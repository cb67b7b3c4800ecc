"""Per family: forest == padded == one sequence at a time, log-probabilities and gradients, in float32 and float64.

The truth is the family's own model with its own attention and head function, run on each response alone.
"""

from __future__ import annotations

import logging

import pytest
import torch

from tests.families import FAMILIES, PADDED, tiny
from whet.batch import TokenBatch, Tree, pack
from whet.errors import ModelError
from whet.models.policy import Decoder
from whet.models.prove import ForestUnsupported, prove
from whet.types import Rollout

LOGPROBS = frozenset({"logprobs"})


def rollouts() -> list[Tree]:
    """Siblings of several lengths, longer than the sliding windows, and lone sequences."""
    draw = torch.Generator().manual_seed(1)

    def ids(count):
        return tuple(torch.randint(3, 40, (count,), generator=draw).tolist())

    def rollout(prompt, size):
        answer = ids(size)
        return Rollout(
            task_id="t",
            tokens=prompt + answer,
            mask=(False,) * len(prompt) + tuple(i % 4 != 2 for i in range(size)),
            source=("prompt",) * len(prompt) + ("sampled",) * size,
        )

    first, second = ids(12), ids(5)
    return [
        Tree(rollouts=[rollout(first, n) for n in (9, 5, 7)]),
        Tree(rollouts=[rollout(ids(3), 14)]),
        Tree(rollouts=[rollout(second, 8), rollout(second, 1), rollout(ids(4), 2)]),
    ]


def alone(hf, batch: TokenBatch, trees: list[Tree], weight: torch.Tensor):
    """(log-probabilities, gradients) by the family's own forward, one response at a time."""
    if hf._can_set_attn_implementation():
        hf.set_attn_implementation("eager")
    hf.zero_grad()
    out = []
    for rollout in (r for tree in trees for r in tree.rollouts):
        tokens = torch.tensor(rollout.tokens)
        logprobs = hf(input_ids=tokens[None], use_cache=False).logits[0].log_softmax(-1)
        where = [i for i, counts in enumerate(rollout.mask) if counts]
        out.append(torch.stack([logprobs[i - 1, tokens[i]] for i in where]))
    logprobs = torch.cat(out)
    (logprobs * weight).sum().backward()
    return logprobs.detach(), {n: p.grad.clone() for n, p in hf.named_parameters() if p.grad is not None}


def together(decoder: Decoder, batch: TokenBatch, weight: torch.Tensor):
    decoder.hf.zero_grad()
    logprobs = decoder(batch, LOGPROBS).token["logprobs"]
    (logprobs * weight).sum().backward()
    return logprobs.detach(), {n: p.grad.clone() for n, p in decoder.hf.named_parameters() if p.grad is not None}


def agree(ours, theirs, tolerance):
    torch.testing.assert_close(ours[0].to(theirs[0].dtype), theirs[0], atol=tolerance, rtol=tolerance)
    assert ours[1].keys() == theirs[1].keys()
    for name in theirs[1]:
        scale = max(1.0, theirs[1][name].abs().max().item())
        torch.testing.assert_close(ours[1][name], theirs[1][name], atol=tolerance * scale, rtol=tolerance)


@pytest.fixture(autouse=True)
def _float64_stays_float64(monkeypatch):
    """Families round softmax and norms to float32; in float64 that would hide what is compared."""
    softmax, to, single = torch.nn.functional.softmax, torch.Tensor.to, torch.Tensor.float

    def wide_softmax(x, dim=None, dtype=None, **options):
        return softmax(x, dim=dim, dtype=x.dtype if x.dtype == torch.float64 else dtype, **options)

    def wide_to(x, *args, **options):
        narrows = x.dtype == torch.float64 and torch.float32 in (*args, options.get("dtype"))
        return x if narrows else to(x, *args, **options)

    monkeypatch.setattr(torch.nn.functional, "softmax", wide_softmax)
    monkeypatch.setattr(torch.Tensor, "to", wide_to)
    monkeypatch.setattr(torch.Tensor, "float", lambda x: x if x.dtype == torch.float64 else single(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("family", FAMILIES)
def test_forest_padded_and_alone_agree(family, dtype):
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    trees = rollouts()
    batch = pack(trees)
    weight = torch.randn(batch.counted.numel(), generator=torch.Generator().manual_seed(2)).to(dtype)
    decoder = Decoder(tiny(family, dtype=dtype))
    truth = alone(decoder.hf, batch, trees, weight)
    prove(decoder, "forest")
    assert decoder.layout == "forest"
    agree(together(decoder, batch, weight), truth, tolerance)
    prove(decoder, "padded")
    assert decoder.layout == "padded"
    agree(together(decoder, batch, weight), truth, tolerance)


@pytest.mark.parametrize("family", PADDED)
def test_a_family_that_cannot_be_a_forest_is_padded_and_says_so(family, caplog):
    decoder = Decoder(tiny(family))
    with caplog.at_level(logging.WARNING, logger="whet"):
        prove(decoder)
    assert decoder.layout == "padded" and type(decoder.hf).__name__ in decoder.layout_reason
    assert "layout=padded is used" in caplog.text
    trees = rollouts()
    batch = pack(trees)
    weight = torch.randn(batch.counted.numel(), generator=torch.Generator().manual_seed(2))
    agree(together(decoder, batch, weight), alone(decoder.hf, batch, trees, weight), 2e-5)
    with pytest.raises(ForestUnsupported):
        prove(decoder, "forest")
    assert issubclass(ForestUnsupported, ModelError)
