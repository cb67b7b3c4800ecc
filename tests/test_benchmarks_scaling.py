"""A prompt costs once per group, work is linear in tokens, and what is kept for backward follows the token budget."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from benchmarks import scaling
from benchmarks.__main__ import main as benchmarks_main
from benchmarks.counts import Counts, counted
from benchmarks.scaling import Cost, Point
from benchmarks.scaling_table import line
from whet.models.policy import Decoder

BASE = Point(model="tiny", prompts=1, group=8, prompt=24, response=6)


@cache
def model() -> Decoder:
    return scaling.model_of("tiny")


@cache
def cost(point: Point) -> Cost:
    return scaling.cost(point, model(), rounds=0)


def drawn(point: Point) -> Counts:
    found = cost(point).sample
    assert found is not None
    return found


@pytest.mark.parametrize("group", [1, 8, 16])
def test_a_prompt_goes_through_the_model_once_per_group(group: int) -> None:
    point = replace(BASE, prompts=2, group=group)
    rows = max(2 * group, 8)  # a decode step on a CPU has eight rows at least
    assert cost(point).update.tokens == 2 * (24 + group * 6) == point.once
    assert drawn(point).tokens == 2 * 24 + rows * 5
    if group > 1:
        assert drawn(point).tokens == point.drawn
        assert cost(point).update.tokens < point.repeated == 2 * group * 30


def test_each_further_response_costs_the_same() -> None:
    """Linear layers and head: the second eight responses cost what the third do, and no prompt."""
    eight, sixteen, more = (cost(replace(BASE, group=group)).update.linear for group in (8, 16, 24))
    assert sixteen - eight == more - sixteen > 0
    prompt = cost(replace(BASE, group=8, prompt=48)).update.linear - eight
    assert 0 < prompt < 24 * (sixteen - eight) / 48  # 24 prompt tokens, without the head that 48 answer tokens need


def test_twice_the_batch_is_twice_the_work_in_the_same_memory() -> None:
    one, two = (cost(replace(BASE, prompts=prompts, budget=BASE.once)).update for prompts in (2, 4))
    assert two.tokens == 2 * one.tokens and two.linear == 2 * one.linear and two.attention == 2 * one.attention
    assert two.saved == one.saved > 0


def test_memory_follows_the_budget() -> None:
    kept = [cost(replace(BASE, prompts=4, budget=BASE.once * pieces)).update.saved for pieces in (1, 2, 4)]
    assert kept[1] == pytest.approx(2 * kept[0], rel=0.02) and kept[2] == pytest.approx(4 * kept[0], rel=0.02)


def test_attention_grows_with_the_prompt_and_the_rest_with_tokens() -> None:
    long = replace(BASE, prompt=8 * BASE.prompt)
    grown = cost(long).update.attention / cost(BASE).update.attention
    assert grown > 3 and drawn(long).attention > 3 * drawn(BASE).attention
    assert cost(long).update.linear / cost(BASE).update.linear < long.once / BASE.once < grown
    assert drawn(long).tokens - drawn(BASE).tokens == 7 * BASE.prompt


def test_counts_are_those_of_a_layer_by_hand() -> None:
    embedding, head = torch.nn.Embedding(5, 8), torch.nn.Linear(8, 3, bias=False)
    whole = torch.nn.Sequential(embedding, head)
    tokens = torch.tensor([[0, 1, 2, 3]])
    found = counted(lambda: whole(tokens).square().sum().backward(), whole, embedding)
    forward = 2 * 4 * 8 * 3
    assert found.tokens == 4 and found.attention == 0
    assert found.linear == 3 * forward  # forward, gradient of the input, gradient of the weight
    states, squared, ids = 4 * 8 * 4, 4 * 3 * 4, 4 * 8
    assert found.saved == states + squared + ids


def test_a_line_says_how_far_its_points_are() -> None:
    found = line([1, 2, 3], [1.0, 3.0, 2.0])
    assert (found.a, found.b) == (1.0, 0.5) and found.deviation == pytest.approx(0.5)
    assert line([4, 4], [2.0, 2.0]).b == 0.0


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scaling.json"
    assert scaling.main(["model", "prompts", "--small", "--rounds", "1", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "bytes kept over tokens" in printed and "once: each prompt and each response once" in printed
    model_row, prompts = json.loads(out.read_text())["rows"]
    assert (model_row["name"], prompts["name"]) == ("model", "prompts")
    assert prompts["lines"]["linear operations over tokens"]["deviation"] < 1e-9
    assert all(point["update_cpu"] > 0 and point["sample_cpu"] > 0 for point in prompts["points"])


def test_an_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmarks_main(["scaling", "grop"])
    assert "no row is called grop; rows: group" in capsys.readouterr().err
