"""Shelves: read without importing, checked without guessing, refused when two of one name meet."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from whet.errors import ConfigError
from whet.members import read_members
from whet.registry import Choice, Either, Shelf, plug
from whet.words import shown, type_text

Package = Callable[..., tuple[str, Path]]
_COUNT = itertools.count()

DPO = '''
"""The page."""
from __future__ import annotations
from typing import Annotated, Literal
import {package} as home
from {package} import preference_loss

Speed = Literal["slow", "fast"]

@preference_loss(needs={{"logprobs"}}, couples="step")
def dpo(chosen, rejected, /, weight, *, beta: float = 0.1, reduce: Reduce = "sum", speed: Speed | None = None):
    """Pushes the margin up.

    More.
    """
    return beta

@home.preference_loss
async def ipo(chosen, rejected, *, tau: Annotated[float, Field(gt=0)] = 0.1, sizes: tuple[int, ...] = (1, 2)):
    return tau

@home.preference_loss()
def sharp(*, edge: float):
    return edge

def helper(): ...
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """A new importable package with a shelf in its `__init__` and the given files in its sub-package `shelf`."""

    def make(**files: str) -> tuple[str, Path]:
        name = f"grove{next(_COUNT)}"
        folder = tmp_path / name / "shelf"
        folder.mkdir(parents=True)
        (tmp_path / name / "__init__.py").write_text(
            "from whet.registry import Shelf\n"
            f'preference_loss = Shelf("preference loss", "{name}.shelf")\n'
            f'statistic = Shelf("statistic", "{name}.shelf", "{name}.shelf.dpo")\n'
        )
        for file, text in {"__init__": "", **files}.items():
            (folder / f"{file}.py").write_text(text.replace("{package}", name).replace("{{", "{").replace("}}", "}"))
        monkeypatch.syspath_prepend(tmp_path)
        return name, folder

    return make


def shelf_of(name: str, kind: str = "preference_loss") -> Shelf:
    return getattr(__import__(name), kind)


def test_a_shelf_is_read_without_importing_its_members(package: Package) -> None:
    name, folder = package(dpo=DPO + "\nraise ImportError('members must not be imported to be listed')\n")
    shelf = shelf_of(name)
    assert shelf.names() == ("dpo", "ipo", "sharp")
    entry = shelf.entry("dpo")
    assert (entry.module, entry.path, entry.line) == (f"{name}.shelf.dpo", (folder / "dpo.py").resolve(), 11)
    assert (entry.page, entry.summary) == ("The page.", "Pushes the margin up.")
    assert entry.inputs == ("chosen", "rejected", "weight")
    assert dict(entry.declarations) == {"needs": {"logprobs"}, "couples": "step"}
    assert [(o.name, o.text, o.default) for o in entry.options] == [
        ("beta", "number", 0.1),
        ("reduce", "sum | mean", "sum"),
        ("speed", "slow | fast | null", None),
    ]
    assert [entry.name for entry in shelf.entries()] == ["dpo", "ipo", "sharp"]
    assert [o.required for o in shelf.entry("sharp").options] == [True]
    assert shelf.choose("ipo", tau=1) == Choice("ipo", {"tau": 1.0, "sizes": (1, 2)})
    assert f"{name}.shelf.dpo" not in sys.modules
    with pytest.raises(ImportError, match="members must not"):
        shelf.get("dpo")


def test_a_member_is_a_plain_function_and_bind_fills_its_options(package: Package) -> None:
    name, _ = package(dpo=DPO)
    shelf = shelf_of(name)
    function = shelf.get("dpo")
    assert type(function) is type(package) and function is sys.modules[f"{name}.shelf.dpo"].dpo
    bound = shelf.bind("dpo", beta=1)
    assert bound.keywords == {"beta": 1.0, "reduce": "sum", "speed": None} and bound(0, 0, 0) == 1.0
    assert shelf.get("sharp")(edge=2) == 2


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (
            "dpo",
            {"bta": 1},
            r"bta: dpo has no option 'bta' \(did you mean beta\?\); its options: beta \(number\), ",
        ),
        ("dpo", {"beta": "0.1"}, r'beta: got "0.1"; it must be a number'),
        ("dpo", {"beta": True}, r"beta: got true; it must be a number"),
        ("dpo", {"beta": float("nan")}, r"beta: got NaN; it must be a finite number"),
        ("dpo", {"reduce": "median"}, r"reduce: got \"median\"; it must be 'sum' or 'mean'"),
        ("dpo", {"beta": object()}, r"beta: got <object object at .*>; allowed: number"),
        ("ipo", {"tau": 0}, r"tau: got 0; it must be greater than 0"),
        ("ipo", {"sizes": [1, "x"]}, r'sizes\.1: got "x"; it must be an integer'),
        ("sharp", {}, r"edge: sharp needs this option: number"),
        ("dpoo", {}, r"no preference loss is called 'dpoo' \(did you mean dpo\?\); there are: dpo, ipo, sharp"),
        ("zzz", {}, r"no preference loss is called 'zzz'; there are: dpo, ipo, sharp"),
    ],
)
def test_a_wrong_name_or_option_says_what_is_allowed(package: Package, name: str, options: Any, said: str) -> None:
    shelf = shelf_of(package(dpo=DPO)[0])
    with pytest.raises(ConfigError, match=said):
        shelf.check(name, options)


def test_all_wrong_options_are_named_at_once(package: Package) -> None:
    shelf = shelf_of(package(dpo=DPO)[0])
    with pytest.raises(ConfigError) as caught:
        shelf.bind("dpo", bta=1, beta="x", speed="fastt")
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == ["bta", "beta", "speed"]


def test_options_keep_their_order_and_lists_become_tuples(package: Package) -> None:
    shelf = shelf_of(package(dpo=DPO)[0])
    assert list(shelf.check("dpo", {"speed": "fast", "beta": 1}).items()) == [
        ("beta", 1.0), ("reduce", "sum"), ("speed", "fast")]  # fmt: skip
    assert shelf.check("ipo", {"sizes": [3]})["sizes"] == (3,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("@preference_loss\ndef a(*, beta=0.1): ...", r"one\.py:2: the option 'beta' needs a type"),
        ("@preference_loss\ndef a(*, name: str = ''): ...", r"another name than 'name'"),
        ("@preference_loss\ndef a(*, beta: float = 1 / 3): ...", r"the option 'beta' must be a literal"),
        ("@preference_loss\ndef a(*, beta: Tensor = 1): ...", r"a type that the shelf does not know: Tensor"),
        ("@preference_loss(need={'x'})\ndef a(): ...", r"declares 'need'; it may declare needs, couples"),
        ("@preference_loss(**more)\ndef a(): ...", r"declares None; it may declare"),
        ("@preference_loss(needs=more)\ndef a(): ...", r"the declaration 'needs' must be a literal"),
        (
            "@preference_loss\ndef a(): ...\n@preference_loss\ndef a(): ...",
            r"functions are called 'a': .*:2 and .*:4",
        ),
        ("@preference_loss\ndef a(: ...", r"one\.py cannot be read as a Python file"),
    ],
)
def test_a_file_that_cannot_be_read_without_running_is_refused(package: Package, text: str, said: str) -> None:
    shelf = shelf_of(package(one=text)[0])
    with pytest.raises(ConfigError, match=said):
        shelf.names()


def test_two_files_with_one_name_are_refused_and_both_named(package: Package) -> None:
    text = "from {package} import preference_loss\n@preference_loss\ndef twin(): ...\n"
    shelf = shelf_of(package(one=text, two=text)[0])
    with pytest.raises(ConfigError, match=r"two members are called .*'twin': .*one\.py:3 and .*two\.py:3; rename one"):
        shelf.names()


def test_a_file_may_stand_on_several_shelves_and_on_a_shelf_through_two_packages(package: Package) -> None:
    both = "from {package} import preference_loss, statistic\n"
    both += "@preference_loss\ndef tdpo(): ...\n@statistic\ndef kl(): ...\n"
    name, _ = package(dpo=both)
    losses, statistics = shelf_of(name), shelf_of(name, "statistic")
    assert (losses.names(), statistics.names()) == (("tdpo",), ("kl",))
    assert losses.get("tdpo").__module__ == statistics.get("kl").__module__


def test_what_registers_must_be_what_was_read(package: Package) -> None:
    hidden = "from {package} import preference_loss as real\n"
    name, _ = package(
        silent=hidden + "def preference_loss(f): return f\n@preference_loss\ndef silent(): ...\n",
        richer=hidden + "def preference_loss(f): return real(needs={'x'})(f)\n@preference_loss\ndef richer(): ...\n",
        drifted=hidden + "def preference_loss(f):\n    f.__kwdefaults__ = {'beta': 2.0}\n    return real(f)\n"
        "@preference_loss\ndef drifted(*, beta: float = 1.0): ...\n",
    )
    shelf = shelf_of(name)
    for member, said in [("silent", "did not register"), ("richer", "only at run time"), ("drifted", "differ at run")]:
        with pytest.raises(AssertionError, match=said):
            shelf.get(member)


def test_a_function_wrapped_below_the_decorator_keeps_its_own_options(package: Package) -> None:
    lift = "import functools\nfrom {package} import preference_loss\ndef lift(f):\n    @functools.wraps(f)\n"
    lift += "    def lifted(*a, **k): return 2 * f(*a, **k)\n    return lifted\n"
    name, _ = package(one=lift + "@preference_loss\n@lift\ndef half(x, *, by: float = 0.5): return x * by\n")
    assert shelf_of(name).bind("half", by=2)(3) == 12


def test_a_shelf_may_be_a_single_file_and_must_exist(package: Package) -> None:
    name, _ = package(dpo=DPO)
    assert Shelf("preference loss", f"{name}.shelf.dpo").entry("dpo").module == f"{name}.shelf.dpo"
    with pytest.raises(AssertionError, match="does not exist"):
        Shelf("loss", f"{name}.nowhere").names()
    assert repr(Shelf("KL estimator", "a", "b")) == "Shelf('KL estimator', 'a', 'b')"
    assert Shelf("KL estimator", "a").decorator == "kl_estimator"


def test_a_function_from_outside_joins_the_shelf(package: Package) -> None:
    shelf = shelf_of(package(dpo=DPO)[0])

    @shelf(needs={"logprobs"})
    def mine(chosen, rejected, *columns, scale: float = 2.0, mode: Reduce = "sum", **rest):  # type: ignore[name-defined]
        """Mine."""
        return chosen * scale

    entry = shelf.entry("mine")
    assert (entry.inputs, entry.doc, entry.from_file) == (("chosen", "rejected"), "Mine.", False)
    assert [(o.name, o.text) for o in entry.options] == [("scale", "number"), ("mode", "sum | mean")]
    assert entry.page == __doc__ and shelf.bind("mine", scale=3)(2, 0) == 6
    assert entry.declarations == {"needs": {"logprobs"}}


def test_what_cannot_be_a_member_from_outside_is_refused(package: Package) -> None:
    shelf = shelf_of(package(dpo=DPO)[0])

    def dpo() -> None: ...

    def odd(*, x: Nowhere = 1) -> None: ...  # type: ignore[name-defined]

    with pytest.raises(ConfigError, match=r"two members are called .*'dpo': .*dpo\.py:11 and .*test_registry"):
        shelf.add(dpo)
    with pytest.raises(ConfigError, match="int is no plain function"):
        shelf.add(int)
    with pytest.raises(ConfigError, match="odd has an option of a type that is not known here"):
        shelf.add(odd)
    with pytest.raises(ConfigError, match="odd declares 'neds'; a preference loss may declare needs"):
        shelf.add(odd, neds=1)
    with pytest.raises(ConfigError, match="cannot be read as a Python file"):
        shelf.add("nowhere.py")


def test_a_function_typed_again_in_a_notebook_replaces_itself(package: Package) -> None:
    shelf = shelf_of(package()[0])
    for cell in ("<cell 1>", "<cell 2>"):
        scope: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(f"def mine(): return {cell!r}", cell, "exec"), scope)
        shelf(scope["mine"])
    assert shelf.get("mine")() == "<cell 2>"


def test_a_file_from_outside_joins_every_shelf_it_decorates_for(package: Package, tmp_path: Path) -> None:
    name, _ = package(dpo=DPO)
    losses, statistics = shelf_of(name), shelf_of(name, "statistic")
    extra = tmp_path / "extra.py"
    extra.write_text(
        f"from {name} import preference_loss, statistic\n"
        "@preference_loss\ndef slic(*, delta: float = 1.0): return delta\n@statistic\ndef spread(): return 7\n"
    )
    assert plug(extra, [losses, statistics]) == {"preference loss": ("slic",), "statistic": ("spread",)}
    assert losses.add(extra) == ("slic",)
    assert losses.bind("slic", delta=2)() == 2 and statistics.get("spread")() == 7
    assert losses.get("slic").__module__ == statistics.get("spread").__module__
    (tmp_path / "empty.py").write_text("def f(): ...\n")
    with pytest.raises(ConfigError, match="adds nothing: none of its functions is decorated with one of @pref"):
        plug(tmp_path / "empty.py", [losses, statistics])
    with pytest.raises(ConfigError, match="has no function decorated with @statistic, so it adds no statistic"):
        statistics.add(tmp_path / "empty.py")


def test_a_choice_is_a_value() -> None:
    choice = Choice("dpo", {"beta": 0.2})
    assert choice == Choice("dpo", {"beta": 0.2}) != Choice("dpo", {"beta": 0.3})
    assert repr(choice) == "Choice('dpo', beta=0.2)" and hash(Choice("a", {"k": 1})) == hash(Choice("a", {"k": 1.0}))
    assert pickle.loads(pickle.dumps(choice)) == choice
    with pytest.raises(TypeError):
        choice.options["beta"] = 1  # type: ignore[index]


def test_a_field_chooses_from_a_shelf_by_name_or_mapping(package: Package) -> None:
    shelf = shelf_of(package(dpo=DPO)[0])
    model = type("Model", (BaseModel,), {"__annotations__": {"loss": Annotated[Choice, shelf]}})
    complete = Choice("dpo", {"beta": 0.5, "reduce": "sum", "speed": None})
    for given in ({"name": "dpo", "beta": 0.5}, Choice("dpo", {"beta": 0.5}), complete):
        assert model(loss=given).loss == complete
    assert model(loss="ipo").model_dump(mode="json") == {"loss": {"name": "ipo", "tau": 0.1, "sizes": [1, 2]}}
    assert model.model_validate_json(model(loss="ipo").model_dump_json()).loss == model(loss="ipo").loss
    for given, at in [({"name": "dpo", "b": 1, "beta": "x"}, [("b",), ("beta",)]), ("dpoo", [("name",)]), (3, [()])]:
        with pytest.raises(ValidationError) as caught:
            model(loss=given)
        (error,) = caught.value.errors()
        assert [below for below, _ in error["ctx"]["problems"]] == at


def test_a_field_of_no_shelf_is_refused_when_its_class_is_made() -> None:
    with pytest.raises(TypeError, match="a field of type Choice needs its shelf"):
        type("Model", (BaseModel,), {"__annotations__": {"loss": Choice}})
    with pytest.raises(TypeError, match="under another name than its own"):
        type("Model", (BaseModel,), {"__annotations__": {"loss": Annotated[Choice, Choice("dpo")]}})


def test_a_field_may_choose_from_either_of_two_shelves(package: Package) -> None:
    first = shelf_of(package(dpo=DPO)[0])
    second = shelf_of(package(kto="@preference_loss\ndef kto(): ...\n@preference_loss\ndef ipo(): ...\n")[0])
    either = Either(first, second)
    model = type("Model", (BaseModel,), {"__annotations__": {"loss": Annotated[Choice, either]}})
    assert model(loss="kto").loss == Choice("kto") and either.shelf_of("dpo") is first is first.shelf_of("dpo")
    with pytest.raises(ValidationError, match=r"no preference loss or .* is called 'kot' \(did you mean kto"):
        model(loss="kot")
    with pytest.raises(ValidationError, match=r"'ipo' could be a preference loss or .*dpo\.py:.* and .*kto\.py:4"):
        model(loss="ipo")


def test_a_file_without_the_decorators_name_is_not_even_parsed(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("this is no Python")
    assert read_members(tmp_path / "other.py", module="other", decorator="loss", types={}, declares=()) == []


def test_types_of_options_may_be_given_to_the_shelf(package: Package) -> None:
    name, _ = package(
        one="@preference_loss\ndef a(*, k: Positive = 1, j: Pair = None): ...\nPair = list[Positive] | None"
    )
    shelf = Shelf("preference loss", f"{name}.shelf", types={"Positive": Annotated[int, Field(gt=0)]})
    assert [o.text for o in shelf.entry("a").options] == ["integer > 0", "[integer > 0, ...] | null"]


def test_words_for_types_and_values() -> None:
    assert type_text(dict[str, int]) == "{text: integer}"
    assert type_text(Literal["a", 1, True, None]) == "a | 1 | true | null"
    assert type_text(Path | BaseModel) == "path | section"
    assert type_text(Annotated[float, Field(ge=0, le=1)]) == "number >= 0 <= 1"
    assert type_text(Any) == "Any" and shown("x" * 99) == '"' + "x" * 79 + "…"


def test_the_projects_own_shelves_are_read_without_torch() -> None:
    program = """
import sys
import whet.advantages, whet.losses
from whet.registry import Shelf
shelves = [s for m in (whet.losses, whet.advantages) for s in vars(m).values() if isinstance(s, Shelf)]
count = 0
for shelf in shelves:
    for name in shelf.names():
        required = {option.name: 1 for option in shelf.entry(name).options if option.required}
        assert required or shelf.choose(name).name == name
        count += 1
assert count > 20, count
assert not {"torch", "transformers"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, cwd=Path(__file__).parents[1])
