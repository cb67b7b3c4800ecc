"""Slots from a budget of memory, and the longest responses first: other steps, the same tokens."""

from __future__ import annotations

from typing import Any

import pytest
from engine_models import ask, asks, tiny

from whet.errors import ConfigError
from whet.rollout import memory, own, shared
from whet.rollout.config import SamplingConfig
from whet.rollout.draws import SampleStats
from whet.rollout.running import Batch
from whet.rollout.torch_engine import TorchEngine
from whet.types import Completion, Request

STOPS = (2, 7, 9)


def drawn(
    requests: list[Request], *, stops: tuple[int, ...] = STOPS, **sampling: Any
) -> tuple[list[list[Completion]], SampleStats]:
    engine = TorchEngine(tiny(), SamplingConfig.model_validate({"max_new_tokens": 20, **sampling}), stops)
    return engine.sample(requests), engine.last


def tokens(drawn: list[list[Completion]]) -> list[list[tuple[int, ...]]]:
    return [[c.tokens for c in group] for group in drawn]


@pytest.fixture
def kib(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is small, so a MiB is a KiB here."""
    monkeypatch.setattr(memory, "MIB", 1 << 10)
    monkeypatch.setattr(own, "SHORT", 4)


@pytest.mark.parametrize("share, given, slots", [(True, 10, 1), (True, 40, 6), (True, 900, 47), (False, 40, 5)])
def test_slots_are_as_many_as_fit(
    share: bool, given: int, slots: int, kib: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [*asks(9, n=5), ask((5,) * 11, "long", 2)]
    held: list[int] = []
    advance = Batch.advance

    def watched(batch: Batch) -> Any:
        ended = advance(batch)
        if isinstance(batch.cache, shared.Shared):
            held.append(batch.cache.kv_bytes)
        return ended

    monkeypatch.setattr(Batch, "advance", watched)
    ours, stats = drawn(requests, share_prompts=share, kv_mib=given)
    assert stats.slots == slots
    assert max(held, default=0) <= given << 10
    assert tokens(ours) == tokens(drawn(requests)[0])


def test_no_room_for_one_response_is_said_in_a_sentence(kib: None) -> None:
    said = r"kv_mib is 9, .* a prompt of 20 tokens and a response of up to 20 need 10 MiB"
    for share in (True, False):
        with pytest.raises(ConfigError, match=said):
            drawn([ask((3,) * 20, "t", 4)], stops=(), kv_mib=9, share_prompts=share)


def test_the_longest_responses_begin_first() -> None:
    # what is left of the context ends the short ones after 4 tokens
    short = [ask((3,) * 60, f"s{i}") for i in range(12)]
    requests = [*short, ask((3, 4), "long")]
    ours, stats = drawn(requests, stops=(), slots=4)
    assert [len(group[0].tokens) for group in ours] == [4] * 12 + [20]
    assert stats.steps == 19  # in the order of the requests: 9 steps for the short ones, then 19
    alone = [drawn([request], stops=())[0][0] for request in requests]
    assert tokens(ours) == tokens(alone)
