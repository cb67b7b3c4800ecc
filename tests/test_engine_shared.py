"""Prompts kept and read once: the same draws as with a copy in every slot, from fewer bytes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from engine_models import FAMILIES, ask, asks, tiny

from whet.rollout import prompts, shared
from whet.rollout.config import SamplingConfig
from whet.rollout.draws import SampleStats
from whet.rollout.running import Batch
from whet.rollout.slots import Slots, arranged
from whet.rollout.torch_engine import TorchEngine
from whet.types import Completion, Request

STOPS = (2, 7, 9)


def drawn(decoder: Any, requests: list[Request], **sampling: Any) -> tuple[list[list[Completion]], SampleStats]:
    engine = TorchEngine(decoder, SamplingConfig.model_validate({"max_new_tokens": 20, **sampling}), STOPS)
    return engine.sample(requests), engine.last


@pytest.fixture
def many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks, pages and kernel calls as many as a large model with long responses has."""
    monkeypatch.setattr(shared, "SHORT", 2)
    monkeypatch.setattr(shared, "CALL_BYTES", 0)
    monkeypatch.setattr(prompts, "PAGE", 3)


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
    assert stats.steps == plain.steps and stats.kv_read < 0.6 * plain.kv_read


def test_it_is_as_exact_in_double_precision(many_blocks: None) -> None:
    decoder, requests = tiny("gemma3", dtype=torch.float64), asks(6)
    ours, theirs = (drawn(decoder, requests, share_prompts=share)[0] for share in (True, False))
    # the log-softmax is float32 in both
    for a, b in zip((c for group in ours for c in group), (c for group in theirs for c in group), strict=True):
        assert a.tokens == b.tokens
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-6)


def test_prompts_are_read_and_kept_once_per_group() -> None:
    decoder, token = tiny(), 2 * 2 * 2 * 8 * 4  # keys and values, layers, heads, width, bytes
    request = ask((3,) * 40, "t", n=8)
    engine = TorchEngine(decoder, SamplingConfig(max_new_tokens=11), ())
    engine.sample([request])
    stats = engine.last
    assert stats.steps == 10
    assert stats.kv_read == token * sum(40 + 8 * i for i in range(1, 11))
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
        going = {draw.request for draw in (*batch.rows, *batch.ready) if draw is not None}
        assert set(batch.cache.prompts.page_of) == going
        assert {r for page in batch.cache.prompts.pages for r in page.requests} == going
        held.append(len(going))
        batches.append(batch)
        return ended

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batch, "advance", watched)
        drawn(decoder, asks(30), slots=6)
    assert max(held) > 3 and held[-1] == 0 and not batches[-1].cache.prompts.pages


def test_rows_read_little_more_than_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "CALL_BYTES", 0)
    monkeypatch.setattr(shared, "SHORT", 2)
    seen: list[tuple[int, int]] = []
    plain = shared.Shared.plan

    def watched(self: shared.Shared, rows: Any, position: Any, index: Any) -> shared.SharedPlan:
        plan = plain(self, rows, position, index)
        lengths = [len(draw.tokens) for draw in rows]
        assert all(max(lengths[s.start : s.end]) == s.longest for s in plan.spans)
        assert sum(s.end - s.start for s in plan.spans) == len(rows)
        seen.append((sum((s.end - s.start) * s.longest for s in plan.spans), sum(lengths)))
        return plan

    monkeypatch.setattr(shared.Shared, "plan", watched)
    drawn(tiny(), asks(24, n=6), slots=32, max_new_tokens=40)
    assert sum(read for read, _ in seen) < 1.4 * sum(there for _, there in seen)


def test_no_slot_is_idle_while_a_draw_waits() -> None:
    plain = Batch._step

    def watched(batch: Batch) -> Any:
        assert not (batch.pending or batch.ready) or len(batch.rows) == batch.capacity
        assert None not in batch.rows
        return plain(batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batch, "_step", watched)
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


@pytest.mark.parametrize("blocks", [[None], [0, None, 0], [0, 1, 2, 3], [1, 0, 1, None, 2, 0, None, 2, 1, 0]], ids=str)
@pytest.mark.parametrize("new", [0, 1, 3])
def test_moves_bring_every_row_where_its_block_stands(blocks: list[int | None], new: int) -> None:
    moves, places = arranged(blocks, new=new)
    after = {target: blocks[source] for source, target in moves}
    moved = {source for source, _ in moves}
    stay = {row: block for row, block in enumerate(blocks) if block is not None and row not in moved}
    assert not stay.keys() & after.keys()
    rows = stay | after | dict.fromkeys(places, 0)
    count = sum(block is not None for block in blocks) + new
    assert sorted(rows) == list(range(count))
    order = [rows[row] for row in range(count)]
    assert order == sorted(order, reverse=True, key=int) and len(places) == new


def test_slots_move_all_at_once() -> None:
    keys = torch.arange(24.0).view(6, 2, 2)
    slots = Slots({0: (keys, -keys)}, count=5, room=6)
    for slot in range(5):
        slots.write(slot, 0, (keys + 100 * slot, -keys - 100 * slot), 0, 6)
    moves = [(0, 1), (1, 0), (2, 3), (4, 2)]  # a ring, and a row that another follows
    slots.move(moves, {0: 6, 1: 6, 2: 6, 4: 6})
    for target, source in {1: 0, 0: 1, 3: 2, 2: 4, 4: 4}.items():
        for sign, store in zip((1, -1), slots.layers[0], strict=True):
            assert torch.equal(store[target], sign * (keys + 100 * source).transpose(0, 1))
