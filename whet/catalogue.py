"""What there is, and what each name means: `whet list`, `whet explain`, `whet recipe show`. Imports no torch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from whet import advantages, losses, rewards
from whet.config import Loaded, describe, dump
from whet.errors import ConfigError
from whet.members import Entry
from whet.plan import Plan, of_recipe, placeholders
from whet.recipes import recipe
from whet.recipes.stage import MakeConfig
from whet.registry import Choice, Shelf
from whet.words import listed, nearest


def shelves() -> tuple[Shelf, ...]:
    """Every shelf, recipes first."""
    found = [value for module in (losses, advantages, rewards) for value in vars(module).values()]
    return (recipe, *(value for value in found if isinstance(value, Shelf)))


def worlds() -> list[tuple[str, str]]:
    """(name, sentence) of every lab world."""
    from whet.lab.worlds import WORLDS

    return [(f"lab:{name}", world.sentence) for name, world in WORLDS.items()]


def print_catalogue(what: str | None) -> None:
    """One table: shelf, name, what it is, and the laws it is excused from."""
    kinds = {shelf.kind: shelf for shelf in shelves()}
    wanted = {"lab world", *kinds} if what is None else {what.replace("_", " ").removesuffix("s")}
    unknown = wanted - {"lab world", *kinds}
    if unknown:
        raise ConfigError(
            f"there is no shelf {what!r}{nearest(str(what), kinds)}; there are: {listed([*kinds, 'lab world'])}"
        )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("shelf", "name", "what it is"):
        table.add_column(title, no_wrap=title != "what it is", overflow="fold")
    for kind, shelf in kinds.items():
        for entry in shelf.entries() if kind in wanted else ():
            table.add_row(Text(kind, style="dim"), entry.name, entry.summary + _excuses(entry))
    for name, sentence in worlds() if "lab world" in wanted else ():
        table.add_row(Text("lab world", style="dim"), name, sentence)
    Console().print(table)


def _excuses(entry: Entry) -> str:
    broken = entry.declarations.get("breaks", {})
    return "".join(f" [law {law} does not hold: {why}]" for law, why in broken.items())


def print_explanation(names: Sequence[str]) -> None:
    """One name in full, or the choices in which several differ."""
    console = Console(highlight=False)
    found = [_find(name) for name in names]
    if len(found) == 1:
        shelf, entry = found[0]
        console.print(_recipe_text(entry) if shelf is recipe else _member_text(shelf, entry), markup=False)
        return
    console.print(_differences(found))


def _find(name: str) -> tuple[Shelf, Entry]:
    for shelf in shelves():
        if name in shelf.names():
            return shelf, shelf.entry(name)
    known = [member for shelf in shelves() for member in shelf.names()]
    raise ConfigError(f"nothing is called {name!r}{nearest(name, known)}; whet list shows all names")


def _member_text(shelf: Shelf, entry: Entry) -> str:
    lines = [f"{entry.name}  ({shelf.kind})", "", inspect.cleandoc(entry.page), "", inspect.cleandoc(entry.doc), ""]
    lines += ["options:" if entry.options else "no options"]
    for option in entry.options:
        default = "must be given" if option.required else f"default {option.default!r}"
        lines.append(f"  {option.name}: {option.text}, {default}")
    if entry.declarations:
        lines += ["", *(f"{key}: {_declared(value)}" for key, value in entry.declarations.items())]
    return "\n".join([*lines, "", f"file: {entry.path.name}, function {entry.name}"])


def _declared(value: Any) -> str:
    return ", ".join(sorted(value)) if isinstance(value, set) else str(value)


def _recipe_text(entry: Entry) -> str:
    """The recipe's sentence, then each choice of each stage with its formula and numbers."""
    lines = [f"{entry.name}  (recipe)", "", inspect.cleandoc(entry.doc)]
    for stage, loaded in _stages(entry.name):
        lines += ["", f"stage {stage}:", *(f"  {line}" for line in formula(loaded.value))]
    return "\n".join(lines)


def formula(config: Any) -> list[str]:
    """Every choice of a loop's configuration with its equation and numbers, a line each."""
    lines: list[str] = []
    for key, (shelf, choice) in choices(config).items():
        options = ", ".join(f"{name} = {value}" for name, value in choice.options.items())
        lines.append(f"{key} = {choice.name}" + (f"  with {options}" if options else ""))
        lines += [f"    {line}" for line in _equation(shelf.entry(choice.name))]
    return [*lines, *(f"{key} = {value}" for key, value in _numbers(config).items())]


def _equation(entry: Entry) -> list[str]:
    """The indented block of a method's page: its equation; else the first line of its docstring."""
    block = [line.strip() for line in entry.page.splitlines() if line.startswith("    ")]
    end = next((i for i, line in enumerate(block) if line.startswith((">>>", "|"))), len(block))
    return block[:end] or [entry.summary]


def _stages(name: str) -> list[tuple[str, Loaded[Any]]]:
    made = _planned(name)
    return [(stage.name, loaded) for stage, loaded in made.preview() if not isinstance(stage.config, MakeConfig)]


def _planned(name: str, given: Sequence[str] = ()) -> Plan:
    """A recipe's plan; what must be given and is not stands as its name in capitals."""
    return of_recipe(name, placeholders(get_type_hints(recipe.get(name))["params"], given))


def choices(config: Any, above: str = "") -> dict[str, tuple[Shelf, Choice]]:
    """Every named choice of a configuration by its key, with the shelf it stands on."""
    out: dict[str, tuple[Shelf, Choice]] = {}
    for key in type(config).model_fields:
        value = getattr(config, key)
        if isinstance(value, Choice):
            shelf = next(s for s in shelves() if value.name in s.names() and _fits(s, value))
            out[above + key] = (shelf, value)
        elif isinstance(value, BaseModel):
            out |= choices(value, f"{above}{key}.")
    return out


def _fits(shelf: Shelf, choice: Choice) -> bool:
    return shelf is not recipe and set(choice.options) <= {option.name for option in shelf.entry(choice.name).options}


def _numbers(config: Any) -> Mapping[str, Any]:
    keys = ("kl.coef", "kl.place", "entropy", "group", "updates", "minibatches", "whiten")
    out: dict[str, Any] = {}
    for key in keys:
        value = config
        for part in key.split("."):
            value = getattr(value, part, None)
        if value is not None:
            out[key] = value
    return out


def _differences(found: Sequence[tuple[Shelf, Entry]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    columns: list[dict[str, str]] = []
    for shelf, entry in found:
        table.add_column(entry.name, overflow="fold")
        columns.append(_described(shelf, entry))
    for key in dict.fromkeys(key for column in columns for key in column):
        cells = [column.get(key, "–") for column in columns]
        if len(set(cells)) > 1:
            table.add_row(Text(key, style="dim"), *(Text(cell) for cell in cells))
    return table


def _described(shelf: Shelf, entry: Entry) -> dict[str, str]:
    if shelf is not recipe:
        return {"is a": shelf.kind, "formula": " ".join(_equation(entry))} | {
            option.name: str(option.default) for option in entry.options
        }
    out: dict[str, str] = {}
    for _, loaded in _stages(entry.name):
        out |= {key: repr(choice).removeprefix("Choice") for key, (_, choice) in choices(loaded.value).items()}
        out |= {key: str(value) for key, value in _numbers(loaded.value).items()}
    return out


def show_recipe(name: str, overrides: Sequence[str], *, stage: str | None) -> str:
    """Parameters and every stage as YAML; one stage alone is a file for `whet run`."""
    made = _planned(name, overrides)
    preview = made.preview()
    if stage is not None:
        names = [s.name for s, _ in preview]
        if stage not in names:
            raise ConfigError(
                f"recipe {name} has no stage {stage!r}{nearest(stage, names)}; its stages: {listed(names)}"
            )
        return dump(next(loaded for s, loaded in preview if s.name == stage))
    params = {row.key: row for row in describe(type(made.params.value))}
    lines = [f"# {recipe.entry(name).summary}", "", f"# parameters of {name}: whet run {name} KEY=VALUE …"]
    for line in dump(made.params).splitlines():
        row = params.get(line.partition(":")[0])
        lines.append(f"{line}  # {' '.join(row.doc.split())}" if row and row.doc else line)
    for s, loaded in preview:
        lines += ["", f"# stage {s.name}: override with {s.name}.KEY=VALUE", f"{s.name}:"]
        lines += [f"  {line}" for line in dump(loaded).splitlines()]
    return "\n".join(lines) + "\n"
