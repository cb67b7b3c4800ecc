"""Recorded decode steps, with a recorder that only remembers and calls: everything but the GPU's own part."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from engine_models import asks, tiny
from torch import Tensor

from whet.errors import ConfigError
from whet.rollout import graphs
from whet.rollout.config import SamplingConfig
from whet.rollout.graphs import padded_sizes
from whet.rollout.torch_engine import TorchEngine

STOPS = (2, 7, 9)


class Recorder:
    """Keeps what it is given, and gives the same output tensor at each replay, as a recording on a GPU does."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.recorded += 1
        out = compute()

        def replay() -> Tensor:
            self.replayed += 1
            return out.copy_(compute())

        return replay


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gpt_oss", "gpt2"])
def test_replayed_steps_draw_the_same(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "COLUMNS", 4)
    decoder, requests, recorder = tiny(family), asks(12, n=3), Recorder()
    plain = TorchEngine(decoder, SamplingConfig(max_new_tokens=20, slots=17, share_prompts=False), STOPS)
    replayed = TorchEngine(
        decoder, SamplingConfig(max_new_tokens=20, slots=17, share_prompts=False), STOPS, capture=recorder
    )
    want, got = plain.sample(requests), replayed.sample(requests)
    for group, other in zip(want, got, strict=True):
        for a, b in zip(group, other, strict=True):
            assert a.tokens == b.tokens and a.logprobs == pytest.approx(b.logprobs, abs=1e-5)
    stats = replayed.last
    assert stats.steps == plain.last.steps == recorder.replayed
    assert stats.recordings == recorder.recorded < 0.6 * stats.steps
    assert stats.decode_tokens == plain.last.decode_tokens and stats.idle_rows >= plain.last.idle_rows


def test_a_recording_only_reads_what_stays_where_it_is() -> None:
    decoder, places = tiny(), []
    decoder.backbone.register_forward_pre_hook(
        lambda module, args, kwargs: places.append(
            (kwargs["input_ids"].shape[1], kwargs["input_ids"].data_ptr(), kwargs["position_ids"].data_ptr())
        ),
        with_kwargs=True,
    )
    sampling = SamplingConfig(max_new_tokens=20, slots=16, share_prompts=False)
    sampler = TorchEngine(decoder, sampling, STOPS, capture=Recorder())
    sampler.sample(asks(4, n=8))
    steps = places[sampler.last.prefills :]
    assert {rows for rows, *_ in steps} == {8, 16}
    assert len({(token, position) for _, token, position in steps}) == 1


def test_sizes_are_few_and_cover_the_step() -> None:
    sizes = {padded_sizes(n, c, slots=200, room=3000) for n in range(1, 201) for c in range(1, 3001, 7)}
    assert len(sizes) == 9 * 8
    for rows, columns in ((1, 1), (129, 2999), (200, 376)):
        most, wide = padded_sizes(rows, columns, slots=200, room=3000)
        assert rows <= most <= 200 and columns <= wide <= 3000


def test_recording_without_a_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"sampling\.graphs=true records decode steps on a CUDA device"):
        TorchEngine(tiny(), SamplingConfig(graphs=True), STOPS)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_replays_what_it_recorded() -> None:
    decoder, requests = tiny().to("cuda"), asks(12, n=3)
    drawn = [
        TorchEngine(decoder, SamplingConfig(max_new_tokens=20, slots=17, graphs=record), STOPS).sample(requests)
        for record in (False, True)
    ]
    for group, other in zip(*drawn, strict=True):
        for a, b in zip(group, other, strict=True):
            assert a.tokens == b.tokens and a.logprobs == pytest.approx(b.logprobs, abs=1e-5)
