"""The forest's attention equals one dense masked softmax on any forest: values and gradients, both paths."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.batch import TokenBatch
from whet.models.attention import ForestPlan


def forest(parent: list[int], size: list[int]) -> TokenBatch:
    """A batch with these segments and nothing counted; positions continue the parent's."""
    end: list[int] = []
    positions: list[int] = []
    segment: list[int] = []
    for s, (up, n) in enumerate(zip(parent, size, strict=True)):
        first = end[up] if up >= 0 else 0
        positions += range(first, first + n)
        segment += [s] * n
        end.append(first + n)
    none = torch.zeros(0, dtype=torch.long)
    count = len(positions)
    return TokenBatch(
        tokens=torch.arange(count),
        positions=torch.tensor(positions, dtype=torch.long),
        segment=torch.tensor(segment, dtype=torch.long),
        parent=torch.tensor(parent, dtype=torch.long),
        previous=torch.full((count,), -1),
        counted=none,
        row=none,
        last=none,
        leaf=none,
        group=none,
        unit=none,
        pairs=none.view(0, 2),
        label_at=none,
        label_row=none,
    )


def seen(batch: TokenBatch, window: int | None) -> torch.Tensor:
    """[T, T] true where a token may look, from the definition, one pair at a time."""
    parent, segment, position = batch.parent.tolist(), batch.segment.tolist(), batch.positions.tolist()
    line = []
    for s in range(len(parent)):
        chain = {s}
        while parent[s] >= 0:
            s = parent[s]
            chain.add(s)
        line.append(chain)
    count = len(segment)
    return torch.tensor(
        [
            [
                segment[j] in line[segment[i]]
                and position[j] <= position[i]
                and (window is None or position[i] - position[j] < window)
                for j in range(count)
            ]
            for i in range(count)
        ]
    )


def dense(q, k, v, sinks, mask, *, scale, softcap):
    repeat = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    scores = torch.einsum("ihd,jhd->hij", q, k) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~mask, -torch.inf)
    if sinks is not None:
        scores = torch.cat([scores, sinks[:, None, None].expand(-1, q.shape[0], 1)], -1)
    probability = scores.softmax(-1)[..., : q.shape[0]]
    return torch.einsum("hij,jhd->ihd", probability, v)


def both(batch, *, window=None, softcap=None, sinks=False, heads=(4, 2), width=8, dtype=torch.float64, whole=True):
    """(forest, dense) outputs and gradients of a random loss; without `whole` every tree is cut into segments."""
    torch.manual_seed(0)
    count = batch.tokens.numel()
    inputs = [torch.randn(count, h, width, dtype=dtype) for h in (heads[0], heads[1], heads[1])]
    inputs += [torch.randn(heads[0], dtype=dtype)] if sinks else []
    weight = torch.randn(count, heads[0], width, dtype=dtype)
    results = []
    for path in ("forest", "dense"):
        leaves = [x.clone().requires_grad_() for x in inputs]
        q, k, v = leaves[:3]
        sink = leaves[3] if sinks else None
        if path == "forest":
            lifted = [x.transpose(0, 1)[None] for x in (q, k, v)]
            plan = ForestPlan.of(batch)
            plan._parts = plan.cut.parts(plan.device, whole=whole)
            out = plan.attend(0, *lifted, scaling=0.3, window=window, softcap=softcap, sinks=sink)[0]
        else:
            out = dense(q, k, v, sink, seen(batch, window), scale=0.3, softcap=softcap)
        (out * weight).sum().backward()
        results.append([out.detach(), *(x.grad for x in leaves)])
    return results


def agree(batch, tolerance=1e-12, **options):
    ours, theirs = both(batch, **options)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


@st.composite
def forests(draw):
    count = draw(st.integers(1, 9))
    parent = [draw(st.integers(-1, s - 1)) for s in range(count)]
    size = [draw(st.integers(0, 7)) for _ in range(count)]
    size[0] = max(size[0], 1)
    return forest(parent, size)


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(forests(), st.sampled_from([None, 1, 3, 6]), st.sampled_from([None, 1.5]), st.booleans(), st.booleans())
def test_any_forest_equals_dense_attention(batch, window, softcap, sinks, whole):
    agree(batch, window=window, softcap=softcap, sinks=sinks, whole=whole)


def test_a_tree_of_short_segments_is_one_rectangle():
    """A prompt of 13 with sixteen answers of 3 as a whole; longer ones and lone segments in pieces."""
    short = forest([-1, *[0] * 16], [13, *[3] * 16])
    assert [tuple(part.query.shape) for part in ForestPlan.of(short).parts] == [(1, 61)]
    assert len(ForestPlan.of(short, attention="simple").parts) > 1
    long = forest([-1, *[0] * 8], [256, *[64] * 8])
    assert all(part.tree is None for part in ForestPlan.of(long).parts)
    mixed = forest([-1, 0, 0, -1, -1, 4, 4, 5], [4, 2, 3, 9, 90, 70, 60, 50])
    own = [part for part in ForestPlan.of(mixed).parts if part.own]
    assert sorted(torch.cat([part.query_tokens for part in own]).tolist()) == list(range(288))
    assert [part.query_tokens.tolist() for part in own if part.tree is not None] == [list(range(9))]
    for window in (None, 5):
        agree(mixed, window=window)
        agree(short, window=window)


@pytest.mark.parametrize("window", [8, 9, 10])
def test_windows_about_as_wide_as_the_longest_look_back(window):
    agree(forest([-1], [10]), window=window)
    for whole in (True, False):
        agree(forest([-1, 0], [6, 4]), window=window, whole=whole)


@pytest.mark.parametrize("window", [None, 40])
def test_sizes_that_need_several_buckets(window):
    sizes = [70, 9, 33, 1, 120, 64, 2, 50, 80, 5]
    agree(forest([-1, 0, 0, 0, -1, 4, 4, 2, -1, 8], sizes), window=window)
    parts = ForestPlan.of(forest([-1] * 4, [100, 100, 10, 9])).parts
    assert [tuple(part.query.shape) for part in parts] == [(2, 100), (2, 10)]


def test_float32_and_bfloat16_stay_near():
    batch = forest([-1, 0, 0, -1, 3, 3], [20, 5, 9, 13, 8, 8])
    agree(batch, tolerance=2e-5, dtype=torch.float32)
    ours, theirs = both(batch, dtype=torch.bfloat16)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=0.1, rtol=0.1)


def test_padding_stays_within_its_bound():
    torch.manual_seed(0)
    sizes = torch.randint(1, 200, (60,)).tolist()
    parts = ForestPlan.of(forest([-1] * 60, sizes)).parts
    area = sum(part.query.numel() * part.key.shape[1] for part in parts)
    assert area <= 1.3 * sum(n * n for n in sizes) + 1024 * 60
    assert len(parts) <= 12


def test_kept_keys_are_the_layers_own():
    batch = forest([-1, 0], [3, 2])
    plan = ForestPlan.of(batch, keep=True)
    q, k, v = (torch.randn(1, h, 5, 4) for h in (2, 1, 1))
    plan.attend(7, q, k, v, scaling=None, window=None, softcap=None, sinks=None)
    assert plan.called == {7}
    assert torch.equal(plan.kept[7][0], k[0].transpose(0, 1)) and torch.equal(plan.kept[7][1], v[0].transpose(0, 1))
