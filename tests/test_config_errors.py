"""Every problem of a configuration has its place, what was given and what is allowed, and all come at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_models import (
    FAST,
    Lora,
    said,
)
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from whet.config import Config, load
from whet.errors import ConfigError
from whet.tree import plain, read_override, read_yaml


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


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    assert said(file=tmp_path / "no.yaml") == [
        f"{tmp_path / 'no.yaml'} cannot be read: No such file or directory; give the path of a YAML file"]  # fmt: skip
    (tmp_path / "bytes.yaml").write_bytes(b"a: \xff\n")
    assert said(file=tmp_path / "bytes.yaml") == [
        f"{tmp_path / 'bytes.yaml'} is no text in UTF-8: invalid start byte at byte 3"
    ]


@FAST
@given(st.text(max_size=40) | st.text(alphabet="ab:[]{}-?&*!|>'\"%@`#,. \n\t1e", max_size=30))
def test_any_text_is_a_tree_or_a_clear_error(text: str) -> None:
    try:
        read_yaml(text, name="f", problems=[])
    except ConfigError as error:
        assert str(error).startswith("f")
    read_override(text, problems=[])


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
