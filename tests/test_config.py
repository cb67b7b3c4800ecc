"""Configuration: what is read is what was written, and every value has an origin."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
from config_models import (
    FAST,
    Critic,
    Loop,
    Lora,
    Model,
    Optim,
    Weighted,
    given_in,
    pair_loss,
    rating_loss,
    rewards_shelf,
    said,
)
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from whet.config import Config, describe, dump, keys_of, load, resolve_references
from whet.errors import ConfigError
from whet.registry import Choice
from whet.tree import plain, read_override, read_yaml, write_yaml


def test_layers_lie_over_one_another_and_each_value_says_where_it_came_from(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("# mine\nmodel:\n  path: a\noptim:\n  lr: 1e-5\n  schedule: cosine\n", encoding="utf-8-sig")
    recipe = {"optim": Optim(lr=0.5, betas=(0.1, 0.2)), "critic": {"optim": {"lr": 7}}}
    loaded = load(Loop, file=file, overrides=["optim.lr=3e-6", "critic.trunk.path=b"], defaults={"recipe grpo": recipe})
    assert loaded.value.optim == Optim(lr=3e-6, betas=(0.1, 0.2), schedule="cosine")
    assert loaded.value.critic == Critic(optim=Optim(lr=7.0), trunk=Model(path="b"))
    assert given_in(loaded) == {
        "model.path": f"file {file}:3",
        "optim.lr": "command line",
        "optim.betas.0": "recipe grpo",
        "optim.betas.1": "recipe grpo",
        "optim.schedule": f"file {file}:6",
        "critic.optim.lr": "recipe grpo",
        "critic.trunk.path": "command line",
    }
    assert loaded.origins["critic.loss.tau"] == loaded.origins["loss.smoothing"] == "default"
    saved = json.loads(json.dumps(loaded.saved()))
    assert saved["config"]["optim"]["lr"] == 3e-6 and saved["origins"] == loaded.origins
    assert load(Loop, defaults={"saved": saved["config"]}).value == loaded.value


def test_a_recipes_model_lies_under_the_rest_exactly_as_it_is() -> None:
    """What the recipe's object left at the defaults of its class wins over another default of the field."""
    made = Loop(model=Model(path="a"), critic=Critic(optim=Optim(betas=(0.5, 0.6))))
    loaded = load(Loop, defaults={"recipe r": made}, overrides=["flag=false"])
    assert loaded.value == made and loaded.value.critic and loaded.value.critic.optim.lr == 1e-4
    assert given_in(loaded)["critic.optim.betas.0"] == "recipe r" and loaded.origins["critic.optim.lr"] == "default"


def test_another_name_drops_the_options_of_the_former_choice() -> None:
    model = "model: {path: a}\n"
    for order in (["loss=ipo", "loss.tau=0.7"], ["loss.tau=0.7", "loss=ipo"]):
        assert load(Loop, text=model, overrides=order).value.loss == Choice("ipo", {"tau": 0.7})
    assert given_in(load(Loop, text=model, overrides=["loss=ipo"])) == {
        "model.path": "file text:1",
        "loss.name": "command line",
    }
    text = model + "loss: {name: dpo, beta: 0.2}\n"
    assert load(Loop, text=text, overrides=["loss=ipo"]).value.loss == Choice("ipo", {"tau": 0.1})
    assert load(Loop, text=text, overrides=["loss=kto"]).value.loss.options["beta"] == 0.1
    assert load(Loop, text=text, overrides=["loss.smoothing=0.1"]).value.loss == pair_loss.choose(
        "dpo", beta=0.2, smoothing=0.1
    )
    assert load(Loop, text=model + "loss: dpo\n").value.loss.options["beta"] == 0.3
    assert load(Loop, text=model + "loss: {beta: 0.2}\n", overrides=["loss=ipo"]).value.loss == pair_loss.choose("ipo")
    assert load(Loop, text=model, overrides={"loss": Choice("ipo", {"tau": 2})}).value.loss.options == {"tau": 2.0}
    assert load(Loop, text=model).value.loss == pair_loss.choose("dpo", beta=0.3)


def test_a_section_is_switched_on_and_off() -> None:
    path = "model.path=a"
    assert load(Loop, overrides=[path, "model.lora=true"]).value.model.lora == Lora()
    assert load(Loop, overrides=[path, "model.lora=true", "model.lora.rank=4"]).value.model.lora == Lora(rank=4)
    assert load(Loop, overrides=[path, "model.lora.rank=4"]).value.model.lora == Lora(rank=4)
    text = "model: {path: a, lora: {rank: 2}}"
    assert load(Loop, text=text, overrides=["model.lora=true"]).value.model.lora == Lora(rank=2)
    for off in ("false", "null"):
        assert load(Loop, text=text, overrides=[f"model.lora={off}"]).value.model.lora is None
    critic = load(Loop, overrides=[path, "critic=true"]).value.critic
    assert critic and critic.loss == pair_loss.choose("ipo") and critic.optim.lr == 1e-3


def test_elements_are_changed_by_index() -> None:
    loaded = load(
        Loop, overrides=["model.path=a", "rewards.0.weight=2", "optim.betas.1=0.5", "rewards.0.reward.limit=3"]
    )
    assert loaded.value.rewards == (Weighted(weight=2.0, reward=Choice("length", {"limit": 3})),)
    assert loaded.value.optim.betas == (0.9, 0.5)
    assert loaded.origins["optim.betas.0"] == "default" and loaded.origins["optim.betas.1"] == "command line"
    both = load(Loop, overrides=["rewards.1.weight=3", "rewards=[{weight: 5}, {}]", "model.path=a"]).value
    assert [one.weight for one in both.rewards] == [5.0, 3.0]
    assert said("model.path=a", "rewards.1.weight=2", "optim.betas.x=1") == [
        "command line: rewards.1.weight=2: there is no element 1; there are elements 0 to 0",
        "command line: optim.betas.x=1: optim.betas: got {\"x\": 1}; it must be a list",
    ]  # fmt: skip
    none = said("model.path=a", "rewards.0.weight=2", text="rewards: []")
    assert none == ["command line: rewards.0.weight=2: there is no element 0; there are no elements"]


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("optim.lr=1e-5", {"optim": {"lr": 1e-5}}),
        ("a.b=[0.9,0.95]", {"a": {"b": [0.9, 0.95]}}),
        ("a={b: 1, c: x}", {"a": {"b": 1, "c": "x"}}),
        ("a=yes", {"a": "yes"}),
        ("a=true", {"a": True}),
        ("a=null", {"a": None}),
        ("a=-3", {"a": -3}),
        ("a=.5", {"a": 0.5}),
        ("a=-.inf", {"a": float("-inf")}),
        ("a=2024-01-01", {"a": "2024-01-01"}),
        ("a=1:30", {"a": "1:30"}),
        ("a=*.jsonl", {"a": "*.jsonl"}),
        ("a=my.py:score", {"a": "my.py:score"}),
        ("a=Say: hi # now", {"a": "Say: hi # now"}),
        ("a='5'", {"a": "5"}),
        ('a=""', {"a": ""}),
        ("a=x=y", {"a": "x=y"}),
        ("a=é", {"a": "é"}),
    ],
)
def test_a_value_on_the_command_line_is_a_scalar_or_a_flow_list(override: str, value: Any) -> None:
    problems: list[str] = []
    found = read_override(override, problems=problems)
    assert found and not problems
    path, node = found
    for key in reversed(path):
        value_here = {key: value_here if key != path[-1] else plain(node)} if key != path[-1] else {key: plain(node)}
    assert value_here == value


def test_numbers_need_no_quotes_where_text_is_wanted() -> None:
    loaded = load(Loop, text="model: {path: 0123}\nfolder: 7\ndata: ['1', x]\n")
    assert (loaded.value.model.path, loaded.value.folder, loaded.value.data) == ("0123", Path("7"), ("1", "x"))


def test_anchors_stand_for_what_they_name() -> None:
    problems: list[str] = []
    assert plain(read_yaml("a: &x {b: [1]}\nc: *x\n", name="f", problems=problems)) == {
        "a": {"b": [1]},
        "c": {"b": [1]},
    }
    assert not problems


def test_arguments_of_the_python_interface_are_overrides_too() -> None:
    arguments = {
        "model.path": "a",
        "optim": Optim(lr=2),
        "data": ["x", "y"],
        "folder": Path("z"),
        "rewards.0.weight": 4,
    }
    loaded = load(Loop, overrides=arguments)
    assert loaded.value.optim == Optim(lr=2) and loaded.value.data == ("x", "y") and loaded.value.folder == Path("z")
    assert loaded.value.rewards[0].weight == 4
    assert loaded.origins["optim.lr"] == "Python" and loaded.origins["optim.schedule"] == "default"
    with pytest.raises(ConfigError, match=r"argument data: got <object object at .*>; a configuration holds"):
        load(Loop, overrides={"model.path": "a", "data": object()})
    with pytest.raises(ConfigError, match=r'^argument optim\.lr: optim\.lr: got "x"; it must be a number$'):
        load(Loop, overrides={"model.path": "a", "optim.lr": "x"})


def test_references_to_finished_stages_are_replaced_before_values_are_checked() -> None:
    values = {"sft": {"model": "runs/sft", "lr": 2e-5, "files": ["a", "b"]}}
    overrides = ["model.path=${sft.model}/final", "optim.lr=${sft.lr}", "data=[x, '${sft.model}']"]
    loaded = load(Loop, overrides=overrides, values=values)
    assert loaded.value.model.path == "runs/sft/final" and loaded.value.optim.lr == 2e-5
    assert loaded.value.data == ("x", "runs/sft") and loaded.origins["optim.lr"] == "command line"
    assert load(Loop, overrides=["model.path=a", "data=${sft.files}"], values=values).value.data == ("a", "b")
    near = "is not known (did you mean ${sft.model}?); known: sft.model, sft.lr, sft.files"
    assert said("model.path=${sft.mdel}", "folder=${dpo}", "data=${sft.model.x}", values=values) == [
        f"command line: model.path=${{sft.mdel}}: the reference ${{sft.mdel}} {near}",
        f"command line: data=${{sft.model.x}}: the reference ${{sft.model.x}} {near}",
        "command line: folder=${dpo}: the reference ${dpo} is not known; known: sft.model, sft.lr, sft.files",
    ]
    assert load(Loop, overrides=["model.path=${sft.model}"]).value.model.path == "${sft.model}"
    assert resolve_references({"a": [1, "${s.x}"], "b": ("${s.x}!", None)}, {"s": {"x": 2}}) == {
        "a": [1, 2],
        "b": ["2!", None],
    }


def test_models_are_frozen_and_coerce_nothing() -> None:
    with pytest.raises(ValidationError):
        Optim().lr = 2  # type: ignore[misc]
    for wrong in ({"lr": "1"}, {"lr": True}, {"lr": float("inf")}, {"rate": 1}):
        with pytest.raises(ValidationError):
            Optim(**wrong)
    assert Optim(lr=1).lr == 1.0


def test_dump_shows_origins_behind_values() -> None:
    loaded = load(
        Loop, text="model: {path: a b}\nrewards: [{weight: 2}, {}]\ndata: [x, y]", overrides=["optim.betas.1=0.5"]
    )
    lines = dump(loaded, origins=True).splitlines()
    assert lines[:5] == [
        "model:",
        '  path: "a b"  # file text:1',
        "  lora: null  # default",
        "loss:",
        "  name: dpo  # default",
    ]
    assert "  betas: [0.9, 0.5]  # default, command line" in lines
    at = lines.index("rewards:")
    assert lines[at : at + 5] == [
        "rewards:", "  - reward:", "      name: length  # default", "      limit: 9  # default",
        "    weight: 2.0  # file text:2"]  # fmt: skip
    assert "extra: {}  # default" in lines and "#" not in dump(loaded)
    assert load(Loop, text=dump(loaded, origins=True)).value == loaded.value


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["null", "yes", "1e-5", "-", "a:b", "a:", "[x]", "007", "~", "'", '"', "#", "*x", "---", "...", "?", "1_0", ".inf",
     "a: b", "a #b", "\n", "\x85", "\ufeff", "a\n"]
)  # fmt: skip
choices = st.one_of(
    st.builds(lambda beta: pair_loss.choose("dpo", beta=beta), st.floats(-1e300, 1e300)),
    st.builds(lambda some: rating_loss.choose("kto", weights=some), st.lists(st.floats(0, 1), max_size=3)),
)
optims = st.builds(Optim, lr=st.floats(1e-300, 1e300), schedule=st.sampled_from(["constant", "cosine"]))
models = st.builds(Model, path=texts, lora=st.none() | st.builds(Lora, rank=st.integers()))
loops = st.builds(
    Loop,
    model=models,
    loss=choices,
    optim=optims,
    rewards=st.lists(st.builds(Weighted, weight=st.floats(-1, 1)), max_size=3).map(tuple),
    critic=st.none() | st.builds(Critic, trunk=st.none() | models),
    data=texts | st.lists(texts, max_size=3).map(tuple),
    extra=st.dictionaries(texts, st.integers(), max_size=3),
)


@FAST
@given(loops, st.booleans())
def test_a_dumped_tree_is_read_back_equal(loop: Loop, origins: bool) -> None:
    loaded = load(Loop, defaults={"made": loop})
    assert loaded.value == loop
    assert load(Loop, text=dump(loaded, origins=origins)).value == loop
    assert load(Loop, defaults={"saved": json.loads(json.dumps(loaded.saved()["config"]))}).value == loop


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
trees = st.recursive(scalars, lambda t: st.lists(t, max_size=3) | st.dictionaries(texts, t, max_size=3), max_leaves=12)


@FAST
@given(st.dictionaries(texts, trees, min_size=1, max_size=3))
def test_written_yaml_is_read_back_equal(tree: dict[str, Any]) -> None:
    problems: list[str] = []
    assert plain(read_yaml(write_yaml(tree), name="f", problems=problems)) == tree and not problems


def test_nothing_to_write_is_an_empty_mapping() -> None:
    assert write_yaml({}) == "{}\n"


def test_every_key_is_described() -> None:
    rows = {row.key: row for row in describe(Loop)}
    assert (rows["optim.lr"].type, rows["optim.lr"].default) == ("number > 0", "0.0001")
    assert rows["optim.lr"].doc == "Peak learning rate."
    assert rows["model.path"].default is None and rows["critic.optim.lr"].default == "0.001"
    assert (rows["loss"].type, rows["loss"].default) == ("pair loss or rating loss", "dpo")
    assert (rows["loss.beta"].default, rows["loss.smoothing"].default) == ("0.3", "0.0")
    assert rows["rewards.N.reward.limit"].default == "9" and rows["rewards.N.weight"].type == "number"
    assert rows["optim"].default == "" and rows["model.lora"].type == "section | null"
    assert rows["data"].type == "text | [text, ...]" and rows["folder"].default == "runs"

    class Open(Config):
        reward: Annotated[Choice, rewards_shelf]
        other: Annotated[Choice, Field(description="x"), rewards_shelf] = Choice("length", {"limit": 1})

    assert [(row.key, row.default) for row in describe(Open)] == [
        ("reward", None), ("other", "length"), ("other.limit", "1")]  # fmt: skip


def test_keys_follow_what_is_chosen() -> None:
    assert {"loss", "loss.beta", "optim.lr", "critic.optim.lr", "rewards.0.weight", "model.lora.rank"} <= {
        *keys_of(Loop)
    }
    assert "loss.tau" not in keys_of(Loop)


def test_configuration_needs_no_torch() -> None:
    assert "torch" not in {name.partition(".")[0] for name in vars(sys.modules["whet.config"])}
