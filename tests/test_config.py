"""Configuration: what is read is what was written, every value has an origin, every problem a place."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError, model_validator

from whet.config import Config, Loaded, describe, dump, keys_of, load, resolve_references, unread_fields
from whet.errors import ConfigError
from whet.registry import Choice, Either, Shelf
from whet.tree import plain, read_override, read_yaml, write_yaml

FAST = settings(max_examples=50, deadline=None, derandomize=True, database=None)


def shelf(kind: str, *functions: Any) -> Shelf:
    """A shelf that lives in no file of its own."""
    made = Shelf(kind, __name__)
    for function in functions:
        made.add(function)
    return made


def dpo(chosen: Any, rejected: Any, *, beta: float = 0.1, smoothing: float = 0.0) -> None: ...
def ipo(chosen: Any, rejected: Any, *, tau: float = 0.1) -> None: ...
def kto(responses: Any, *, beta: float = 0.1, weights: tuple[float, ...] = (1.0, 1.0)) -> None: ...
def length(rollout: Any, *, limit: int) -> None: ...


pair_loss, rating_loss = shelf("pair loss", dpo, ipo), shelf("rating loss", kto)
rewards_shelf = shelf("reward", length)


class Optim(Config):
    lr: Annotated[float, Field(gt=0)] = 1e-4
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of the moments."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Its shape."""


class Lora(Config):
    rank: int = 8
    """Rank of the update."""


class Model(Config):
    path: str
    """A folder or a name on the hub."""
    lora: Lora | None = None
    """Adapters instead of all weights."""


class Weighted(Config):
    reward: Annotated[Choice, rewards_shelf] = Choice("length", {"limit": 9})
    """What scores."""
    weight: float = 1.0
    """Its factor."""


class Critic(Config):
    loss: Annotated[Choice, pair_loss] = Choice("ipo")
    optim: Optim = Optim(lr=1e-3)
    trunk: Model | None = None


class Loop(Config):
    model: Model
    """What learns."""
    loss: Annotated[Choice, Either(pair_loss, rating_loss)] = Choice("dpo", {"beta": 0.3})
    """The method."""
    optim: Optim = Optim()
    """Optimizer."""
    rewards: tuple[Weighted, ...] = (Weighted(),)
    """Weighted and added."""
    critic: Critic | None = None
    """A value function."""
    data: str | tuple[str, ...] = ()
    """Where the rows are."""
    folder: Path = Path("runs")
    """Where the run goes."""
    extra: dict[str, int] = Field(default_factory=dict)
    """Anything counted."""
    flag: bool = False
    """A switch."""

    @model_validator(mode="after")
    def _agree(self) -> Loop:
        if self.flag and not self.extra:
            raise ValueError("flag=true needs something in extra")
        return self


def said(*overrides: str, **more: Any) -> list[str]:
    """The problems of a configuration, one a line."""
    with pytest.raises(ConfigError) as caught:
        load(Loop, overrides=overrides, **more)
    first, *rest = str(caught.value).splitlines()
    return [line.strip() for line in rest] if rest else [first]


def given_in(loaded: Loaded[Any]) -> dict[str, str]:
    """The origins that are not "default"."""
    return {key: origin for key, origin in loaded.origins.items() if origin != "default"}


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


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("optim.lr", "command line: optim.lr: must have the form key=value, as in optim.lr=1e-4"),
        ("=3", "command line: =3: must have the form key=value, as in optim.lr=1e-4"),
        ("optim..lr=3", "command line: optim..lr=3: must have the form key=value, as in optim.lr=1e-4"),
        ("flag=", "command line: flag=: nothing follows the equals sign; flag=null is no value, "
         "flag='\"\"' is empty text"),
        ("data=[a", "command line: data=[a: the value is no YAML; put it into quotes if it is text"),
        ("data=\udc80", "'command line: data=\\udc80': holds characters that are no text"),
        ("extra={a: 1, a: 2}", "command line: extra={a: 1, a: 2}:1:8: the key 'a' is given twice, first at "
         "command line: extra={a: 1, a: 2}:1:2"),
        ("optim.lr=fast", 'command line: optim.lr=fast: optim.lr: got "fast"; it must be a number'),
        ("optim.lr=0", "command line: optim.lr=0: optim.lr: got 0; it must be greater than 0"),
        ("optim.lr=true", "command line: optim.lr=true: optim.lr: got true; it must be a number"),
        ("optim.lr=.nan", "command line: optim.lr=.nan: optim.lr: got NaN; it must be a finite number"),
        ("optim.lr='1e-5'", "command line: optim.lr='1e-5': optim.lr: got \"1e-5\"; it must be a number"),
        ("optim.schedule=cos", "command line: optim.schedule=cos: optim.schedule: got \"cos\"; "
         "it must be 'constant' or 'cosine'"),
        ("optim.betas=[1]", "command line: optim.betas=[1]: optim.betas.1: must be given"),
        ("model.lora=yes", 'command line: model.lora=yes: model.lora: got "yes"; it must be a section of keys, '
         "true or false"),
        ("optim=3", "command line: optim=3: optim: got 3; it must be a section of keys"),
        ("data=3", "command line: data=3: data: got 3; it must be text or got 3; it must be a list"),
        ("critic.trunk.lora=true", "command line: critic.trunk.lora=true: critic.trunk.path: must be given: "
         "A folder or a name on the hub."),
        ("loss=3", "command line: loss=3: loss: must name a pair loss or rating loss: dpo, ipo, kto"),
        ("loss=dop", "command line: loss=dop: loss.name: no pair loss or rating loss is called 'dop' "
         "(did you mean dpo?); there are: dpo, ipo, kto"),
        ("loss.bta=1", "command line: loss.bta=1: loss.bta: dpo has no option 'bta' (did you mean beta?); "
         "its options: beta (number), smoothing (number)"),
        ("loss.beta=x", 'command line: loss.beta=x: loss.beta: got "x"; it must be a number'),
        ("rewards.0.reward.limit=1.5", "command line: rewards.0.reward.limit=1.5: rewards.0.reward.limit: got 1.5; "
         "it must be an integer"),
        ("flag=true", "the configuration: flag=true needs something in extra"),
    ],
)  # fmt: skip
def test_a_bad_override_says_place_value_and_what_is_allowed(override: str, problem: str) -> None:
    assert said("model.path=a", override) == [problem]


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("lr=1", "optim.lr or critic.optim.lr"),
        ("optim.lrr=1", "optim.lr"),
        ("dpo.beta=1", "loss.beta"),
        ("optimm.lr=1", "optim.lr or critic.optim.lr"),
        ("rewards.0.weigth=1", "rewards.0.weight"),
        ("modle=x", "model"),
        ("model.lora.rnk=1", "model.lora.rank"),
        ("optm.lrate=1", "optim"),
    ],
)
def test_an_unknown_key_suggests_the_nearest_here_or_anywhere(override: str, meant: str) -> None:
    (problem,) = said("model.path=a", override)
    assert f": there is no such key (did you mean {meant}?); allowed here: " in problem


def test_an_unlike_key_gets_no_suggestion() -> None:
    (problem,) = said("model.path=a", "zzzzz=1")
    assert ": zzzzz: there is no such key; allowed here: model, loss, optim, " in problem


def test_the_command_line_may_not_contradict_itself() -> None:
    assert said("model.path=a", "optim.lr=1", "optim.lr=2") == [
        "command line: optim.lr=2: contradicts command line: optim.lr=1"]  # fmt: skip
    assert said("model.path=a", "model.lora.rank=2", "model.lora=false") == [
        "command line: model.lora.rank=2: contradicts command line: model.lora=false"]  # fmt: skip
    assert (
        said("model.path=a", "loss=dpo", "loss=ipo")[0] == "command line: loss=ipo: contradicts command line: loss=dpo"
    )


def test_all_problems_come_at_once_each_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(
        "optim:\n  lr: abc\n  lr: 3\n  beta: 1\nloss:\n  name: ipo\n  tau: x\n  beta: 1\nrewards:\n- weight: a\n"
    )
    assert said("flag=maybe", "extra.a=b", "nothing", file=file) == [
        f"{file}:3:3: the key 'lr' is given twice, first at {file}:2:3",
        "command line: nothing: must have the form key=value, as in optim.lr=1e-4",
        f"{file}: model.path: must be given: A folder or a name on the hub.",
        f"{file}:8:9: loss.beta: ipo has no option 'beta'; its options: tau (number)",
        f'{file}:7:8: loss.tau: got "x"; it must be a number',
        f'{file}:2:7: optim.lr: got "abc"; it must be a number',
        f"{file}:4:3: optim.beta: there is no such key (did you mean optim.betas?); allowed here: lr, betas, schedule",
        f'{file}:10:11: rewards.0.weight: got "a"; it must be a number',
        'command line: extra.a=b: extra.a: got "b"; it must be an integer',
        'command line: flag=maybe: flag: got "maybe"; it must be true or false',
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "text is empty; it must hold a mapping, one `key: value` a line"),
        ("# nothing\n", "text is empty; it must hold a mapping, one `key: value` a line"),
        ("- a\n", "text:1:1: got a sequence; a configuration is a mapping, one `key: value` a line"),
        ("hello", 'text:1:1: got "hello"; a configuration is a mapping, one `key: value` a line'),
        ("a:\n\tb: 1\n", "text:2:1: a tab; YAML indents with spaces"),
        ("a: 1\n---\nb: 2\n", "text:2:1: a second document begins; a configuration is one document"),
        (
            "a: [1\n",
            "text:2:1: this is no YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'",
        ),
        ("a: 1\nb: \x01\n", "text:2: the character '\\x01' is not allowed in YAML"),
        ("- " * 1500, "text: nested too deeply"),
    ],
)  # fmt: skip
def test_what_is_no_configuration_is_refused_with_its_place(text: str, problem: str) -> None:
    assert said(text=text) == [problem]


def test_odd_yaml_is_refused_with_its_place() -> None:
    problems: list[str] = []
    text = "a: &x [*x]\n? [k]\n: 1\n? {k: 1}\n: 1\nb: !!int x\nc: !point 3\nd: !!python/name:os.system\n<<: {a: 1}\n"
    tree = read_yaml(text, name="f", problems=problems)
    assert problems == [
        "f:1:4: an alias stands for something that contains it",
        "f:2:3: a key must be a word, not a sequence",
        "f:4:3: a key must be a word, not a mapping",
        'f:6:4: "x" is no int',
        "f:7:4: the tag !point is not understood; write plain values",
        "f:8:4: the tag tag:yaml.org,2002:python/name:os.system is not understood; write plain values",
    ]
    assert "<<" in plain(tree)


def test_anchors_stand_for_what_they_name() -> None:
    problems: list[str] = []
    assert plain(read_yaml("a: &x {b: [1]}\nc: *x\n", name="f", problems=problems)) == {
        "a": {"b": [1]},
        "c": {"b": [1]},
    }
    assert not problems


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    assert said(file=tmp_path / "no.yaml") == [
        f"{tmp_path / 'no.yaml'} cannot be read: No such file or directory; give the path of a YAML file"]  # fmt: skip
    (tmp_path / "bytes.yaml").write_bytes(b"a: \xff\n")
    assert said(file=tmp_path / "bytes.yaml") == [
        f"{tmp_path / 'bytes.yaml'} is no text in UTF-8: invalid start byte at byte 3"
    ]


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
    assert loaded.origins["optim.lr"] == "argument" and loaded.origins["optim.schedule"] == "default"
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


@FAST
@given(st.text(max_size=40) | st.text(alphabet="ab:[]{}-?&*!|>'\"%@`#,. \n\t1e", max_size=30))
def test_any_text_is_a_tree_or_a_clear_error(text: str) -> None:
    try:
        read_yaml(text, name="f", problems=[])
    except ConfigError as error:
        assert str(error).startswith("f")
    read_override(text, problems=[])


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


def test_a_field_that_nothing_reads_is_found(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.py").write_text("def f(c):\n    c.betas = 1\n    return c.optim.lr\n")
    (tmp_path / "b.py").write_text("schedule = 1\n")
    assert unread_fields([Optim, Lora], [tmp_path]) == ["Optim.betas", "Optim.schedule", "Lora.rank"]
    assert unread_fields([Optim], [tmp_path / "b.py"]) == ["Optim.lr", "Optim.betas", "Optim.schedule"]


def test_fields_of_two_kinds_say_what_each_would_take() -> None:
    class Mixed(Config):
        both: Lora | str = "x"
        either: bool | Lora = True
        words: list[str] = Field(default_factory=list)
        switch: bool | Lora | None = None

    assert load(Mixed, overrides=["switch=false"]).value.switch is False
    assert load(Mixed, overrides=["either=false", "both.rank=3", "words=[a]"]).value == Mixed(
        either=False, both=Lora(rank=3), words=["a"]
    )
    with pytest.raises(ConfigError) as caught:
        load(Mixed, overrides=["both.rnk=3", "either.rank=x"])
    assert [line.strip() for line in str(caught.value).splitlines()[1:]] == [
        "command line: both.rnk=3: both.rnk: there is no such key (did you mean both.rank?); allowed here: rank",
        'command line: either.rank=x: either.rank: got "x"; it must be an integer',
    ]


def test_configuration_needs_no_torch() -> None:
    assert "torch" not in {name.partition(".")[0] for name in vars(sys.modules["whet.config"])}
