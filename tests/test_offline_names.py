"""Every loss over a dataset runs by its own name: by discovery, one optimizer step each through the Python API."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from console import Whet, console
from every_column import data_for

import whet
from tests.model_folders import write_model
from whet.catalogue import shelves
from whet.costs import FREE, cost
from whet.errors import ConfigError
from whet.losses import offline_loss
from whet.plan import losses, plan
from whet.recipes import recipe

EVERY = [(shelf.kind, name) for shelf in offline_loss.shelves for name in shelf.names()]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize(("kind", "name"), EVERY, ids=[name for _, name in EVERY])
def test_one_step_of_every_offline_loss(kind: str, name: str, model: Path, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"data.holdout": 0, "data.identical_limit": 1} | ({} if name in losses() else {"loss": name})
    recipe_name = name if name in losses() else "offline"
    run = whet.run(recipe_name, model=model, data=data_for(kind, tmp_path), steps=1, out=tmp_path / "run", **keys)
    (row,) = run.rows("metrics")
    assert math.isfinite(row[f"loss/{name}"]) and math.isfinite(row["policy/loss"])
    assert row["policy/grad_norm"] > 0 and (run.model / "model.safetensors").is_file()
    assert run.table[0]["stage"] == name


def test_a_losss_name_is_the_recipe_offline_with_it() -> None:
    (one,) = plan("ld_dpo", ["model=m", "data=d", "loss.alpha=0.3"]).preview()
    (two,) = plan("offline", {"model": "m", "data": "d", "loss": {"name": "ld_dpo", "alpha": 0.3}}).preview()
    assert one[0].name == two[0].name == "ld_dpo" and one[1].value == two[1].value
    made = plan("ld_dpo", {"model": "m", "data": "d", "coef": 0.5, "plus": [{"loss": "nll", "coef": 0.2}]})
    config = made.preview()[0][1].value
    assert (config.loss.name, config.coef, config.plus[0].coef) == ("ld_dpo", 0.5, 0.2)
    assert made.called == "ld_dpo" and made.record()[0]["recipe"] == "offline"
    assert set(losses()).isdisjoint(recipe.names()) and plan("dpo", ["model=m", "data=d"]).name == "dpo"


@pytest.mark.parametrize("given", [["loss=dpo"], {"loss": "dpo"}])
def test_a_loss_is_named_once(given: object) -> None:
    with pytest.raises(ConfigError, match=r"ld_dpo is the loss already: set its options as loss\.KEY=VALUE"):
        plan("ld_dpo", given)  # type: ignore[arg-type]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Whet:
    monkeypatch.chdir(tmp_path)
    return console(monkeypatch, capsys)


def test_a_misspelt_loss_names_the_nearest(command: Whet) -> None:
    command("run", "ldd_dpo").refused(ConfigError.exit_code, "'ldd_dpo' (did you mean ld_dpo?)", "whet list preference")
    command("recipe", "show", "ldd_dpo").refused(ConfigError.exit_code, "did you mean ld_dpo?")


def test_show_list_and_explain_agree_about_a_loss(command: Whet) -> None:
    said = command("recipe", "show", "ld_dpo")
    assert said.code == 0 and "# parameters of ld_dpo: whet run ld_dpo KEY=VALUE …" in said.out
    assert "# stage ld_dpo: override with ld_dpo.KEY=VALUE" in said.out
    assert "whet run ld_dpo model=MODEL data=DATA" in command("explain", "ld_dpo").out
    assert command("list", "preference").out == command("list", "preference loss").out
    for first in ("preference", "rating", "ranking"):
        assert command("list", first).out.startswith(f"{first} loss")
    assert command("list", "reward").out.startswith("reward\n"), "a shelf's whole name comes first"


def test_explain_of_a_recipes_name_and_a_losss_compares_losses(command: Whet) -> None:
    said = command("explain", "dpo", "ld_dpo", width=200)
    assert "label_smoothing" in said.out and "log π_ld(y)" in said.out and "stage" not in said.out
    both = command("explain", "dpo", "orpo", width=200)
    assert "loss" in both.out and "formula" not in both.out, "two recipes are compared as such"


def test_explain_of_a_sum_shows_every_summand() -> None:
    from whet.catalogue import formula

    plus = [{"loss": {"name": "ld_dpo", "alpha": 0.3}, "coef": 0.2}, {"loss": "nll"}]
    stage = plan("offline", {"model": "m", "data": "d", "coef": 0.8, "plus": plus}).preview()[0][1].value
    lines = formula(stage)
    assert "plus.0.loss = ld_dpo with beta = 0.1, alpha = 0.3" in lines
    for line in ("coef = 0.8", "plus.0.coef = 0.2", "plus.1.coef = 1.0", "plus.1.loss = nll"):
        assert line in lines


def test_costs_follow_from_what_is_declared() -> None:
    by_name = {entry.name: entry for shelf in offline_loss.shelves for entry in shelf.entries()}
    for name, entry in by_name.items():
        declared, words = entry.declarations, cost(entry)
        needs = set(declared["needs"])
        assert ("reference's forward" in words) == ("reference" in needs), name
        assert ("cut into pieces" in words) == (declared.get("couples") == "step"), name
        assert ("behind another prompt" in words) == bool(declared.get("mismatched")), name
        assert ("value head" in words) == ("value" in needs), name
        assert (words == FREE) == (needs <= {"logprobs", "tokens"} and "couples" not in declared), name
    assert "in every step" in cost(by_name["tdpo1"]) and "cached" not in cost(by_name["tdpo1"])


def test_every_offline_loss_is_listed_with_its_cost(command: Whet) -> None:
    said = " ".join(command("list", width=120).out.split())
    for shelf in shelves():
        for entry in shelf.entries():
            words = f"(beside the policy: {cost(entry)})" if shelf in offline_loss.shelves else ""
            assert " ".join(f"{entry.name} {entry.summary} {words}".split()) in said
