"""Prompts kept and read once: the same draws as with a copy in every slot, from fewer bytes."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from engine_models import FAMILIES, ask, asks, tiny
from torch.utils._python_dispatch import TorchDispatchMode

from whet.rollout import own, prompts, running, shared
from whet.rollout.config import SamplingConfig
from whet.rollout.draws import Draw, SampleStats
from whet.rollout.running import Batch
from whet.rollout.torch_engine import TorchEngine
from whet.types import Completion, Request

STOPS = (2, 7, 9)


def drawn(decoder: Any, requests: list[Request], **sampling: Any) -> tuple[list[list[Completion]], SampleStats]:
    engine = TorchEngine(decoder, SamplingConfig.model_validate({"max_new_tokens": 20, **sampling}), STOPS)
    return engine.sample(requests), engine.last


@pytest.fixture
def many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks, pages and kernel calls as many as a large model with long responses has."""
    monkeypatch.setattr(own, "SHORT", 2)
    monkeypatch.setattr(prompts, "PAGE", 3)
    monkeypatch.setattr(shared, "CALL_BYTES", 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_draws_what_copies_draw(family: str, many_blocks: None) -> None:
    # prompts longer and shorter than the windows of 5 and 6 tokens, responses that leave their prompt's window
    decoder, requests = tiny(family), asks(11, n=4)
    requests += [ask(tuple(1 + i % 60 for i in range(30)), "long", 3)]
    ours, stats = drawn(decoder, requests, slots=13)
    theirs, plain = drawn(decoder, requests, slots=13, share_prompts=False)
    for mine, other in zip(ours, theirs, strict=True):
        for a, b in zip(mine, other, strict=True):
            assert (a.tokens, a.stopped) == (b.tokens, b.stopped)
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-5)
    assert max(len(c.tokens) for group in ours for c in group) == 20
    assert stats.steps == plain.steps and stats.kv_read < plain.kv_read


def test_it_is_as_exact_in_double_precision(many_blocks: None) -> None:
    decoder, requests = tiny("gemma3", dtype=torch.float64), asks(6)
    ours, theirs = (drawn(decoder, requests, share_prompts=share)[0] for share in (True, False))
    # the log-softmax is float32 in both
    for a, b in zip((c for group in ours for c in group), (c for group in theirs for c in group), strict=True):
        assert a.tokens == b.tokens
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-6)


class FusedCalls(TorchDispatchMode):
    """Counts the calls of fused attention kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "scaled_dot_product" in str(func)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_simple_attention_is_simple_in_every_step(family: str, share: bool, many_blocks: None) -> None:
    fast, simple = tiny(family), tiny(family)
    simple.attention = "simple"
    requests = asks(6, n=4)
    theirs = drawn(fast, requests, slots=7, share_prompts=share)[0]
    with FusedCalls() as calls:
        ours = drawn(simple, requests, slots=7, share_prompts=share)[0]
    assert calls.count == 0
    for a, b in zip((c for group in ours for c in group), (c for group in theirs for c in group), strict=True):
        assert a.tokens == b.tokens
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-5)


def test_prompts_are_read_and_kept_once_per_group() -> None:
    decoder, token = tiny(), 2 * 2 * 2 * 8 * 4  # keys and values, layers, heads, width, bytes
    request = ask((3,) * 40, "t", n=8)
    engine = TorchEngine(decoder, SamplingConfig(max_new_tokens=11), ())
    engine.sample([request])
    stats = engine.last
    assert stats.steps == 10
    assert stats.kv_read == token * 10 * (40 + 8 * 10)
    assert stats.kv_bytes == token * (40 + 8 * 10)
    engine = TorchEngine(decoder, SamplingConfig(max_new_tokens=11, share_prompts=False), ())
    engine.sample([request])
    assert engine.last.kv_read == token * sum(8 * (40 + i) for i in range(1, 11))


def test_a_prompt_is_let_go_with_its_last_response() -> None:
    decoder, held = tiny(), []
    batches = []
    plain = Batch.advance

    def watched(batch: Batch) -> Any:
        ended = plain(batch)
        assert isinstance(batch.cache, shared.Shared)
        going = {draw.request for draw in (*batch.rows, *batch.ready) if draw.stopped is None}
        assert set(batch.cache.prompts.page_of) == going
        assert {r for page in batch.cache.prompts.pages for r in page.requests} == going
        held.append(len(going))
        batches.append(batch)
        return ended

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batch, "advance", watched)
        drawn(decoder, asks(30), slots=6)
    assert max(held) > 3 and held[-1] == 0 and not batches[-1].cache.prompts.pages


def test_rows_read_at_most_twice_what_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "SHORT", 2)
    seen: list[tuple[int, int]] = []
    plain = shared.Shared.plan

    def watched(self: shared.Shared, rows: Any, position: Any, index: Any) -> shared.SharedPlan:
        plan = plain(self, rows, position, index)
        assert [draw for block in plan.blocks for draw in block.draws] == rows
        for block in plan.blocks:
            assert block.slots is not None and block.slots.room == block.room
            assert all(
                block.room >= len(draw.tokens) > (block.room // 2 if block.room > 2 else 0) for draw in block.draws
            )
            seen.append((len(block.draws) * block.room, sum(len(draw.tokens) for draw in block.draws)))
        return plan

    monkeypatch.setattr(shared.Shared, "plan", watched)
    drawn(tiny(), asks(24, n=6), slots=32, max_new_tokens=33)
    assert sum(read for read, _ in seen) < 1.6 * sum(there for _, there in seen)


def test_blocks_hold_no_more_room_than_their_rows_needed() -> None:
    _, stats = drawn(tiny(), [ask((3, 4), f"t{i}", n=8) for i in range(8)], slots=64, max_new_tokens=60)
    token = 2 * 2 * 2 * 8 * 4
    # the longest response alone would ask for 64 rows of 59 tokens
    assert stats.kv_bytes < token * (64 * 32 + 30 * 59)


def test_an_empty_block_gives_its_room_back() -> None:
    engine = TorchEngine(tiny(), SamplingConfig(max_new_tokens=51), ())
    engine.sample([ask((3,) * 10, "t", n=8)])
    # all rows outgrow the first block, of 32 tokens, in one step, and are copied into the second
    assert engine.last.kv_bytes == 2 * 2 * 2 * 8 * 4 * (10 + 8 * 32 + 8 * 50)
    rows: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        plain = own.Responses.arrange

        def watched(self: own.Responses, new: Any) -> Any:
            arranged = plain(self, new)
            rows.append(self.bytes)
            return arranged

        patch.setattr(own.Responses, "arrange", watched)
        engine.sample([ask((3,) * 10, "t", n=8)])
    assert set(rows) == {2 * 2 * 2 * 8 * 4 * 8 * 32, 2 * 2 * 2 * 8 * 4 * 8 * 50}


def test_no_slot_is_idle_while_a_draw_waits() -> None:
    plain = Batch._step

    def watched(batch: Batch) -> Any:
        assert not (batch.pending or batch.ready) or len(batch.rows) == batch.capacity
        assert all(draw.stopped is None for draw in batch.rows)
        return plain(batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batch, "_step", watched)
        patch.setattr(running, "PREFILL_LEAST", 0)  # one prompt at a time, where it has draws for all free slots
        for share in (True, False):
            _, stats = drawn(tiny(), asks(40), slots=16, share_prompts=share)
            assert stats.idle_rows < 0.05 * stats.decode_tokens


def test_only_as_many_prompts_are_prefilled_as_slots_are_free() -> None:
    asked = [ask((3,) * 60, f"t{i}", n=4) for i in range(40)]
    engine = TorchEngine(tiny(), SamplingConfig(max_new_tokens=4), ())
    waiting = []
    with pytest.MonkeyPatch.context() as patch:
        plain = Batch._prefill
        patch.setattr(Batch, "_prefill", lambda batch: (plain(batch), waiting.append(len(batch.ready)))[0])
        engine.sample(asked)
    assert engine.last.prompt_tokens == 40 * 60
    assert max(waiting) == 64  # 16 prompts of the 40; 68 would fit into one forward


def test_rows_keep_their_keys_wherever_they_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "SHORT", 2)
    rng = random.Random(0)
    responses = own.Responses(count=9, sizes=own.rooms(16))
    responses.shape({0: (torch.zeros(1, 2, 3), torch.zeros(1, 2, 3))})
    rows: list[Draw] = []
    born = 0
    for _ in range(200):
        new = []
        while len([d for d in rows if d.stopped is None]) + len(new) < 9 and rng.random() < 0.8:
            born += 1
            new.append(Draw(request=born, index=0, seed=0, prompt=(1,), most=17, cut="length", tokens=[born]))
        live = {d.request for d in (*rows, *new) if d.stopped is None}
        rows = responses.arrange(new)
        assert {d.request for d in rows} == live and len(rows) == len(live)
        for block in responses.blocks:
            for slot, draw in enumerate(block.draws):
                assert block.slots is not None and len(draw.tokens) <= block.room
                keys, values = (x[slot, 1, : len(draw.tokens), 2] for x in block.slots.layers[0])
                place = len(draw.tokens) - 1
                keys[place], values[place] = 100.0 * draw.request + place, -1.0
                assert keys.tolist() == [100.0 * draw.request + i for i in range(place + 1)]
                assert values.tolist() == [-1.0] * (place + 1)
        for draw in rows:
            draw.tokens.append(0)
            if len(draw.tokens) == draw.most or rng.random() < 0.1:
                draw.stopped = "stop"
    assert born > 150
