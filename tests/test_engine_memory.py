"""Slots from a budget of memory, and the longest responses first: other steps, the same tokens."""

from __future__ import annotations

from typing import Any

import pytest
from engine_models import ask, asks, tiny

from whet.errors import ConfigError
from whet.rollout import memory, own
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


@pytest.mark.parametrize("share, given, slots", [(True, 10, 1), (True, 40, 6), (True, 900, 47), (False, 40, 3)])
def test_slots_are_as_many_as_fit(
    share: bool, given: int, slots: int, kib: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [*asks(9, n=5), ask((5,) * 11, "long", 2)]
    held: list[int] = []
    advance = Batch.advance

    def watched(batch: Batch) -> Any:
        ended = advance(batch)
        if batch.cache is not None:
            held.append(batch.cache.kv_bytes)
        return ended

    monkeypatch.setattr(Batch, "advance", watched)
    ours, stats = drawn(requests, share_prompts=share, kv_mib=given)
    assert stats.slots == slots
    assert max(held, default=0) <= given << 10
    assert tokens(ours) == tokens(drawn(requests)[0])


def test_no_room_for_one_response_is_said_in_a_sentence(kib: None) -> None:
    for share, need in ((True, 10), (False, 15)):  # a copy stands beside the prompt that it is of
        said = rf"kv_mib is 9, .* a prompt of 20 tokens and a response of up to 20 need {need} MiB"
        with pytest.raises(ConfigError, match=said):
            drawn([ask((3,) * 20, "t", 4)], stops=(), kv_mib=9, share_prompts=share)


def test_a_page_takes_no_room_that_was_promised_to_another_prompt(kib: None) -> None:
    # lengths of several pages in one prefill, and a first one of which more are to come
    sizes = [(2, 2), (7, 1), (40, 1), (15, 2), (40, 1), (1, 1), (63, 1), (40, 2), (7, 1)]
    requests = [ask((3,) * length, f"t{i}", draws) for i, (length, draws) in enumerate(sizes)]
    ours, stats = drawn(requests, stops=(), max_new_tokens=2, slots=1, kv_mib=24)
    assert stats.prefills < len(requests)
    assert stats.kv_bytes <= 24 << 10
    assert tokens(ours) == tokens(drawn(requests, stops=(), max_new_tokens=2)[0])


def test_prompts_that_wait_beside_the_slots_are_counted(kib: None) -> None:
    requests = [ask((3,) * 40, f"t{i}", 1 + i % 3) for i in range(9)]
    ours, stats = drawn(requests, stops=(), max_new_tokens=3, share_prompts=False, kv_mib=42)
    # 168 tokens: three slots of 42, and one prompt of 40 at a time beside them
    assert stats.slots == 3
    assert stats.kv_bytes == (3 * 42 + 40) * 256
    assert tokens(ours) == tokens(drawn(requests, stops=(), max_new_tokens=3)[0])


@pytest.mark.parametrize("share", [True, False])
def test_a_budget_without_keys_and_values_is_refused(share: bool) -> None:
    sampling = SamplingConfig(kv_mib=1, share_prompts=share)
    with pytest.raises(ConfigError, match=r"kv_mib is 1, but with layout=padded .* leave sampling.kv_mib out"):
        TorchEngine(tiny(layout="padded"), sampling, STOPS)
    TorchEngine(tiny(), sampling, STOPS)


def test_the_longest_responses_begin_first() -> None:
    # what is left of the context ends the short ones after 4 tokens
    short = [ask((3,) * 60, f"s{i}") for i in range(12)]
    requests = [*short, ask((3, 4), "long")]
    ours, stats = drawn(requests, stops=(), slots=4)
    assert [len(group[0].tokens) for group in ours] == [4] * 12 + [20]
    assert stats.steps == 19  # in the order of the requests: 9 steps for the short ones, then 19
    alone = [drawn([request], stops=())[0][0] for request in requests]
    assert tokens(ours) == tokens(alone)
