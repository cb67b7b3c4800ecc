"""No pass is computed twice: a step of every row has the operations, tokens and forwards of benchmarks/limit.py.

Products with weights are exact. Attention kernels compute padding between sequences of unlike length, a sampler rows
that have ended and not yet been replaced: both are bounded, well below a second pass.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from counting import Counts, counted

from benchmarks import limit
from benchmarks.limit import Group
from benchmarks.workloads import Workload, workloads

ROWS = workloads(model="tiny", small=True)
LONG = workloads(model="tiny")
PADDED_ATTENTION = 1.4
"""Most that attention kernels compute of what is seen."""
IDLE = 1.3
"""Most rows that a step of the sampler computes of those it must, at ragged lengths and few responses."""


def passes(workload: Workload) -> int:
    """Forwards that a step's training is worth: forward, two in the backward, one of a live reference."""
    return 3 + ((workload.kind == "dpo" and not workload.cached) or workload.kl > 0)


def without_pairs(workload: Workload, groups: list[Group]) -> tuple[int, int]:
    """(products with weights, attention) of a training step by the formula."""
    pairs = 4 * workload.shape.width * workload.shape.layers * sum(group.pairs for group in groups)
    return limit.training(workload, groups) - passes(workload) * pairs, passes(workload) * pairs


@pytest.mark.parametrize("name", ["dpo-live", "dpo-cached", "reward", "sft"])
def test_a_training_step_computes_every_token_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(LONG[name], rows=4)
    counts, groups = counted(row, tmp_path, monkeypatch), limit.forest(row)
    tokens = sum(group.tokens for group in groups)
    assert counts.grad == [tokens] and counts.plain == [tokens] * (passes(row) - 3)
    products, attention = without_pairs(row, groups)
    assert counts.products == products
    assert attention <= counts.attention <= PADDED_ATTENTION * attention


def test_a_step_in_parts_computes_no_token_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(ROWS["dpo-live"], budget=256)
    counts = counted(row, tmp_path, monkeypatch)
    tokens = sum(group.tokens for group in limit.forest(row))
    assert sum(counts.grad) == sum(counts.plain) == tokens
    assert max(counts.grad) <= 256 and 3 <= len(counts.grad) <= 4
    assert counts.products == without_pairs(row, limit.forest(row))[0]


def drawn(counts: Counts, row: Workload) -> list[Group]:
    groups = limit.forest(row, counts.told["lengths"])
    assert len(groups) == row.rows and sum(len(group.responses) for group in groups) == row.sequences
    return groups


def test_sampling_computes_every_prompt_once_and_every_token_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = replace(ROWS["sample-equal"], slots=32)
    counts = counted(row, tmp_path, monkeypatch, steps=1)
    # the last token of a response is not fed; no row is ever idle at equal lengths
    assert counts.plain == [row.rows * row.prompt] + [row.sequences] * (row.mean - 1)
    pairs = 4 * row.shape.width * row.shape.layers
    fed = [Group(prompt=row.prompt, responses=(row.mean - 1,) * row.group)] * row.rows
    attention = pairs * sum(group.pairs for group in fed)
    assert counts.products == limit.sampling(row.shape, drawn(counts, row)) - attention
    assert attention <= counts.attention <= PADDED_ATTENTION * attention


@pytest.mark.parametrize("slots", [8, 64])
def test_ragged_sampling_has_few_idle_rows_and_no_step_too_many(
    slots: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = replace(ROWS["sample"], slots=slots)
    counts = counted(row, tmp_path, monkeypatch, steps=1)
    groups = drawn(counts, row)
    fed = [length - 1 for group in groups for length in group.responses]
    steps = max(end for _, end in limit.schedule(fed, slots))
    prefills = 1 if slots >= row.sequences else row.rows
    assert steps <= len(counts.plain) <= 1.1 * steps + prefills
    tokens = row.rows * row.prompt + sum(fed)
    assert tokens <= sum(counts.plain) <= IDLE * tokens
    assert counts.products <= IDLE * limit.sampling(row.shape, groups)


def test_a_grpo_step_is_its_sampling_and_one_pass_of_policy_and_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = replace(ROWS["grpo-kl"], equal=True, slots=32)
    counts = counted(row, tmp_path, monkeypatch)
    groups = drawn(counts, row)
    tokens = sum(group.tokens for group in groups)
    assert counts.grad == [tokens] and counts.plain.count(tokens) == 1
    assert len(counts.plain) == 1 + 1 + (row.mean - 1)
    fed = [Group(prompt=group.prompt, responses=tuple(n - 1 for n in group.responses)) for group in groups]
    drew = 4 * row.shape.width * row.shape.layers * sum(group.pairs for group in fed)
    products, attention = without_pairs(row, groups)
    assert counts.products == products + limit.sampling(row.shape, groups) - drew
    assert attention + drew <= counts.attention <= PADDED_ATTENTION * (attention + drew)
