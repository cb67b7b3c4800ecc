"""What a reference says of offline rows: computed once, kept by content, and the same bits after any restart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from loop_cases import CASES, Case, drive, save_tiny_model
from torch import nn

from whet.batch import Tree, pack
from whet.errors import ConfigError, Interrupted
from whet.models.config import LoraConfig
from whet.models.io import add_value_head
from whet.models.lora import add_adapter, load_adapter
from whet.models.policy import Decoder
from whet.rundir import RunDir
from whet.train.config import OfflineConfig
from whet.train.credit import token_column
from whet.train.interrupts import Interrupts
from whet.train.reference import OfflineReference, identity, key_of
from whet.train.step import Reference

BUDGET = 40


class Counter:
    """Tokens that went through a model without gradient, by model."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tokens: dict[int, int] = {}
        hidden = Decoder.hidden

        def counted(decoder: Decoder, batch: Any, **named: Any) -> Any:
            if not torch.is_grad_enabled():
                self.tokens[id(decoder)] = self.tokens.get(id(decoder), 0) + batch.tokens.numel()
            return hidden(decoder, batch, **named)

        monkeypatch.setattr(Decoder, "hidden", counted)

    def of(self, decoder: Decoder) -> int:
        return self.tokens.get(id(decoder), 0)


def made(trees: Sequence[Tree], **named: Any) -> tuple[OfflineReference, Decoder, list[tuple[Any, ...]]]:
    decoder, said = tiny.decoder(1).freeze(), []
    note = lambda kind, **details: said.append((kind, details))  # noqa: E731
    return OfflineReference(model=Reference(model=decoder), budget=BUDGET, note=note, **named), decoder, said


def size(trees: Sequence[Tree]) -> int:
    return pack(trees).tokens.numel()


@pytest.mark.parametrize("trees", [tiny.pair_trees(9), tiny.rating_trees(9)], ids=["pairs", "ratings"])
def test_known_values_are_the_live_ones(trees: list[Tree], monkeypatch: pytest.MonkeyPatch) -> None:
    reference, decoder, said = made(trees, mode="auto", rows=4, watched=False)
    counter = Counter(monkeypatch)
    reference.prepare([(tree, 2) for tree in trees])
    assert counter.of(decoder) == size(trees), "each token once"
    assert reference.model is None, "nobody looks at the model any more"
    chosen = [trees[i] for i in (7, 2, 2, 5)]
    live = token_column(Reference(model=decoder), pack(chosen), "logprobs", budget=10_000)
    torch.testing.assert_close(reference.annotate(pack(chosen), chosen).token["reference"], live, rtol=0, atol=1e-6)
    assert said == [("reference", {"rows_computed": 9, "rows_read": 0})]


def test_rows_seen_once_are_asked_for_where_they_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    trees, own = tiny.pair_trees(6), Path("nowhere")
    reference, decoder, said = made(trees, mode="auto", own=own)
    counter = Counter(monkeypatch)
    reference.prepare([(tree, int(i < 4)) for i, tree in enumerate(trees)])
    assert counter.of(decoder) == 0 and said == [] and not own.exists()
    reference.annotate(pack(trees[:2]), trees[:2])
    assert counter.of(decoder) == size(trees[:2])


def test_rows_never_seen_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = tiny.pair_trees(6)
    reference, decoder, _ = made(trees, mode="auto")
    counter = Counter(monkeypatch)
    reference.prepare([(tree, (2, 1, 0)[i % 3]) for i, tree in enumerate(trees)])
    assert counter.of(decoder) == size([tree for i, tree in enumerate(trees) if i % 3 != 2])


def test_held_out_rows_are_known_where_they_are_measured_often(monkeypatch: pytest.MonkeyPatch) -> None:
    trees, held = tiny.pair_trees(4), tiny.pair_trees(3, seed=5)
    reference, decoder, _ = made(trees, mode="auto", held=[(tree, 3) for tree in held], watched=False)
    counter = Counter(monkeypatch)
    reference.prepare([(tree, 1) for tree in trees])
    assert counter.of(decoder) == size(held) and reference.model is not None
    reference.annotate(pack(held), held)
    assert counter.of(decoder) == size(held)


def test_a_shared_folder_serves_the_next_run_and_what_it_began_with_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees, shared = tiny.pair_trees(5), tmp_path / "shared"
    visits = [(tree, 1) for tree in trees]
    first, decoder, _ = made(trees, mode=str(shared), own=tmp_path / "a", rows=2)
    counter = Counter(monkeypatch)
    first.prepare(visits)
    assert counter.of(decoder) == size(trees)
    second, decoder, said = made(trees, mode=str(shared), own=tmp_path / "b", rows=2)
    second.prepare(visits)
    assert counter.of(decoder) == 0 and said == [("reference", {"rows_computed": 0, "rows_read": 5})]
    for path in shared.iterdir():
        path.unlink()
    third, decoder, _ = made(trees, mode=str(shared), own=tmp_path / "b", rows=2)
    third.prepare(visits)
    assert counter.of(decoder) == 0
    values = [r.annotate(pack(trees), trees).token["reference"] for r in (first, second, third)]
    assert torch.equal(values[0], values[1]) and torch.equal(values[0], values[2])


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "other"])
def test_a_damaged_file_is_computed_again_and_said(tmp_path: Path, harm: str) -> None:
    trees = tiny.pair_trees(5)
    visits = [(tree, 2) for tree in trees]
    first, _, _ = made(trees, mode="auto", own=tmp_path)
    first.prepare(visits)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    broken = {"cut": bytes(data[: len(data) // 2]), "flip": bytes(data), "empty": b"", "other": b"{}" * 40}
    path.write_bytes(broken[harm])
    second, _, said = made(trees, mode="auto", own=tmp_path)
    second.prepare(visits)
    assert [kind for kind, _ in said] == ["warning", "reference"] and "damaged" in said[0][1]["text"]
    assert said[1][1] == {"rows_computed": 5, "rows_read": 0}
    assert torch.equal(*(r.annotate(pack(trees), trees).token["reference"] for r in (first, second)))
    third, _, said = made(trees, mode="auto", own=tmp_path)
    third.prepare(visits)
    assert said == [("reference", {"rows_computed": 0, "rows_read": 5})]


def test_anything_a_value_follows_from_is_in_the_key() -> None:
    trees = tiny.pair_trees(3)
    decoder = tiny.decoder(1)
    rollout = trees[1].rollouts[0]
    word = (*rollout.tokens[:-1], (rollout.tokens[-1] + 1) % 5)
    mask = (*rollout.mask[:-1], not rollout.mask[-1])
    others = [
        [replace(trees[1], rollouts=[replace(rollout, tokens=word), trees[1].rollouts[1]])],
        [replace(trees[1], rollouts=[replace(rollout, mask=mask), trees[1].rollouts[1]])],
        [replace(trees[1], rollouts=list(trees[1].rollouts)[::-1])],
    ]
    keys = {key_of("m", trees), *(key_of("m", [trees[0], *other, trees[2]]) for other in others)}
    keys |= {key_of("n", trees), key_of("m", trees[:2]), key_of("m", [trees[1], trees[0], trees[2]])}
    assert len(keys) == 7
    before = identity(Reference(model=decoder))
    assert before == identity(Reference(model=tiny.decoder(1))) != identity(Reference(model=tiny.decoder(2)))
    add_value_head(decoder, seed=3)
    assert identity(Reference(model=decoder)) == before, "a value head gives no log-probability"
    decoder.config.rope_theta = 5.0
    assert identity(Reference(model=decoder)) != before


def test_how_much_an_adapter_adds_is_in_the_key_unless_it_is_off(tmp_path: Path) -> None:
    """An edited folder has the same weights, rank and alpha, and says something else."""
    adapted = add_adapter(tiny.decoder(1), LoraConfig(rank=2, targets=("q_proj", "v_proj")), seed=0)
    nn.init.ones_(next(p for name, p in adapted.named_parameters() if "lora_B" in name))
    adapted.adapter.save_pretrained(tmp_path)
    place, batch = tmp_path / "adapter_config.json", pack(tiny.pair_trees(3))
    options = json.loads(place.read_text())
    on, off, said = set[str](), set[str](), set[float]()
    for changed in ({}, {"use_rslora": True}, {"alpha_pattern": {"q_proj": 1}}, {"lora_alpha": 8}):
        place.write_text(json.dumps(options | changed))
        decoder = load_adapter(tiny.decoder(1), str(tmp_path))
        on.add(identity(Reference(model=decoder)))
        off.add(identity(Reference(model=decoder, adapter_off=True)))
        said.add(float(token_column(Reference(model=decoder), batch, "logprobs", budget=BUDGET).sum()))
    assert (len(on), len(off), len(said)) == (4, 1, 4) and not on & off


def test_a_stop_asked_for_between_two_parts_keeps_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees, calls = tiny.pair_trees(4), []

    def pause() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise Interrupted("asked")

    first, _, _ = made(trees, mode="auto", own=tmp_path, rows=2)
    with pytest.raises(Interrupted):
        first.prepare([(tree, 2) for tree in trees], pause=pause)
    second, decoder, _ = made(trees, mode="auto", own=tmp_path, rows=2)
    counter = Counter(monkeypatch)
    second.prepare([(tree, 2) for tree in trees])
    assert counter.of(decoder) == size(trees[2:])


def changed(case: Case, **changes: Any) -> Case:
    return Case(config=case.config.model_copy(update=changes), objects=case.objects)


def test_a_run_says_what_it_kept_and_learns_the_same_without(tmp_path: Path) -> None:
    """KTO sees 12 rows 25 times in five steps; its four held-out rows are measured three times."""
    save_tiny_model(tmp_path / "model")
    case = CASES["kto"](tmp_path / "model")
    for mode in ("auto", "off"):
        drive(changed(case, reference_cache=mode), tmp_path / mode)
    runs = {mode: RunDir.open(tmp_path / mode / "stages/01-loop") for mode in ("auto", "off")}
    (event,) = [row for row in runs["auto"].rows("events") if row["event"] == "reference"]
    assert (event["rows_computed"], event["rows_read"]) == (16, 0)
    assert not [row for row in runs["off"].rows("events") if row["event"] == "reference"]
    for name in ("metrics", "evals"):
        for mine, live in zip(runs["auto"].rows(name), runs["off"].rows(name), strict=True):
            assert mine.keys() == live.keys()
            assert [v for v in mine.values() if v != "held-out"] == pytest.approx(
                [v for v in live.values() if v != "held-out"], rel=1e-3, abs=1e-4
            )


def test_ctrl_c_before_the_first_step_is_heard(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    interrupts = Interrupts()
    interrupts.asked = True
    with pytest.raises(Interrupted, match="before the first step"):
        drive(CASES["dpo"](tmp_path / "model"), tmp_path / "run", interrupts=interrupts)
    drive(CASES["dpo"](tmp_path / "model"), tmp_path / "run")
    assert len(list(RunDir.open(tmp_path / "run/stages/01-loop").rows("metrics"))) == 5


def test_a_cache_without_a_reference_is_refused(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    case = CASES["dpo"](tmp_path / "model")
    tree = case.config.model_dump() | {"loss": "orpo", "reference_cache": "off"}
    with pytest.raises(ConfigError, match="reference_cache is given, but orpo looks at none"):
        drive(Case(config=OfflineConfig.model_validate(tree), objects=case.objects), tmp_path / "run")
