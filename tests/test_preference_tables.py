"""The tables that compare methods of preference learning: a few small runs through every part of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import whet
from tests.paths import SHARED, need
from whet.errors import ConfigError

TABLES = ("lab_preferences", "real_preferences")


def test_methods_of_every_kind_are_compared_on_the_same_feedback(tmp_path: Path) -> None:
    """Pairs, single answers, rankings; the rate of the grid, three seeds and the control."""
    small = {"demonstrations": 64, "pairs": 12, "held": 6, "prompts": 5, "batch": 6, "rates": (1e-3,), "workers": 1}
    methods = ("dpo", "bco", "plackett_luce")
    run = whet.run("lab_preferences", methods=methods, out=tmp_path / "run", **small)
    rows = {row["stage"]: row for row in run.table}
    assert set(rows) == set(methods)
    for row in rows.values():
        assert row["win_rate"]["n"] == 5 and row["lr"] == 1e-3 and row["seeds"].count(",") == 2
        assert row["control"] is not None and {"kl", "gold", "chosen", "rejected", "length"} <= set(row)
    kept = sorted((tmp_path / "run/stages/03-compare/trials").glob("*.json"))
    assert len(kept) == 3 * (1 + 3 + 1) + 2, "DPO's control is run with every seed"
    assert len({json.loads(path.read_text())["key"] for path in kept}) == len(kept)


@pytest.mark.parametrize("subset", [pytest.param("harmless-base", marks=pytest.mark.slow), "summaries"])
def test_methods_are_compared_on_real_preferences(subset: str, tmp_path: Path) -> None:
    need("data/models/stories260K")
    need("data/hh-rlhf" if subset == "harmless-base" else "data/tldr-preferences")
    small = {"methods": ("dpo", "orpo"), "rates": (1e-3,), "max_rows": 24, "batch": 12, "workers": 1}
    run = whet.run("real_preferences", folder=str(SHARED / "data"), subset=subset, out=tmp_path / "run", **small)
    rows = {row["stage"]: row for row in run.table}
    assert set(rows) == {"length alone", "dpo", "orpo"}
    assert all(
        0 <= rows[name]["accuracy"]["value"] <= 1 and rows[name]["shuffled_accuracy"] for name in ("dpo", "orpo")
    )


def test_an_unknown_method_is_named_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no method 'dpoo' \(did you mean dpo\?\)"):
        whet.run("lab_preferences", methods=("dpoo",), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
