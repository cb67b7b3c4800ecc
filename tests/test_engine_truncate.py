"""What top-k, top-p and min-p keep is what `transformers` keeps, and its mass is what is left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from engine_models import asks, tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from whet.rollout import truncate
from whet.rollout.config import SamplingConfig
from whet.rollout.draw import draw_tokens
from whet.rollout.torch_engine import TorchEngine


def oracle(scores: Tensor, *, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0) -> Tensor:
    """True where the three warpers of `transformers`, in their order, keep a token."""
    none: torch.LongTensor = torch.zeros(1, 1, dtype=torch.long)  # type: ignore[assignment]
    if top_k:
        scores = TopKLogitsWarper(top_k)(none, scores)
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(none, scores)
    if min_p:
        scores = MinPLogitsWarper(min_p)(none, scores)
    return scores.isfinite()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    spread=st.sampled_from([0.01, 1.0, 6.0]),
    top_k=st.sampled_from([0, 1, 3, 100, 300, 400]),
    top_p=st.sampled_from([1.0, 0.999, 0.9, 0.5, 0.01]),
    min_p=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
)
def test_it_keeps_what_transformers_keeps(seed: int, spread: float, top_k: int, top_p: float, min_p: float) -> None:
    scores = torch.randn(6, 300, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * spread
    least = truncate.threshold(scores, top_k=top_k, top_p=top_p, min_p=min_p)
    assert torch.equal(scores >= least[:, None], oracle(scores, top_k=top_k, top_p=top_p, min_p=min_p))


def test_equal_scores_stay_or_go_together() -> None:
    scores = torch.tensor([[2.0, 1.0, 1.0, 1.0, 0.0]])
    for cut in ({"top_k": 2}, {"top_p": 0.6}, {"top_k": 2, "top_p": 0.9}):
        assert (scores >= truncate.threshold(scores, **cut)).tolist() == [[True, True, True, True, False]]


def test_a_flat_row_among_peaked_ones_is_sorted_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.zeros(8, 2000)
    scores[:7, 0] = 30.0
    asked: list[tuple[int, int]] = []
    plain = truncate._nucleus

    def watched(scores: Tensor, total: Tensor, top_p: float, *, width: int) -> Tensor:
        asked.append((scores.shape[0], width))
        return plain(scores, total, top_p, width=width)

    monkeypatch.setattr(truncate, "_nucleus", watched)
    truncate.threshold(scores, top_p=0.9)
    assert asked == [(8, 64), (1, 1024), (1, 2000)]


@pytest.mark.parametrize("cut", [{"top_p": 0.8}, {"top_k": 4}, {"min_p": 0.2}, {"top_k": 9, "top_p": 0.7}], ids=str)
def test_the_distribution_drawn_from_is_the_enumerated_one(cut: dict[str, float]) -> None:
    decoder, stock, requests = tiny(), tiny(layout="padded"), asks(6)
    sampling = SamplingConfig.model_validate({"max_new_tokens": 8, "temperature": 0.8, **cut})
    drawn = TorchEngine(decoder, sampling, (2,)).sample(requests)
    for request, group in zip(requests, drawn, strict=True):
        for c in group:
            with torch.no_grad():
                logits = stock.hf(input_ids=torch.tensor([request.prompt + c.tokens])).logits[0]
            scores = logits[len(request.prompt) - 1 : -1] / 0.8
            kept = scores.masked_fill(~oracle(scores, **cut), float("-inf"))
            wanted = kept.log_softmax(dim=1).gather(1, torch.tensor(c.tokens)[:, None])[:, 0]
            got = torch.tensor(c.logprobs) - torch.tensor(c.log_mass)
            assert torch.allclose(got, wanted, atol=1e-5, rtol=0)


def test_a_large_vocabulary_is_never_sorted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    sorted_: list[int] = []
    real = np.sort
    monkeypatch.setattr(np, "sort", lambda x, **options: (sorted_.append(x.shape[-1]), real(x, **options))[1])

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "sort" in str(func):
                sorted_.append(args[0].shape[-1])
            return func(*args, **(kwargs or {}))

    scores = torch.randn(8, 5000, generator=torch.Generator().manual_seed(0)) * 4
    seed = torch.arange(8)
    with Watch():
        for cut in ({}, {"top_k": 40}, {"top_p": 0.9}, {"top_k": 40, "top_p": 0.9}, {"min_p": 0.1}, {"greedy": True}):
            draw_tokens(scores, seed, seed, sampling=SamplingConfig.model_validate(cut), vocabulary=5000)
    assert sorted_ == []
