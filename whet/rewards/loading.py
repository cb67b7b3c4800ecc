"""Functions by their import path: `my.py:score` from a file, `package.module:name` from what is installed."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from whet.errors import ConfigError, RewardError
from whet.words import listed, nearest

_OPEN = {"*", "__getattr__", "globals", "locals", "vars", "setattr", "exec", "eval"}
"""What makes a module's names unknown until it has run."""


def load_function(path: str) -> Callable[..., Any]:
    """The callable that an import path names; a wrong half of the path is an error with the nearest right one.

    >>> load_function("math:sqrt")(9.0)
    3.0
    """
    place, name = check_place(path)
    module = _from_file(Path(place)) if place.endswith(".py") else _from_package(place, path)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise ConfigError(
                f"{place} has no {name!r}{nearest(part, _callables(found))}; it has {listed(_callables(found))}"
            )
        found = getattr(found, part)
    if not callable(found):
        raise ConfigError(f"{path} is of type {type(found).__name__}; a reward is a function")
    return found


def check_place(path: str) -> tuple[str, str]:
    """(file or module, function) of an import path; a file must be there. Nothing is run.

    A function that the file lacks is refused where another has nearly its name; otherwise the file may yet make it when
    it is run, and loading says.
    """
    place, colon, name = path.rpartition(":")
    if not colon or not place or not name:
        raise ConfigError(f"{path!r} is no import path of a function; write FILE.py:NAME or PACKAGE.MODULE:NAME")
    file = Path(place)
    if place.endswith(".py") and not file.is_file():
        folder = file.parent
        names = [p.name for p in folder.glob("*.py")] if folder.is_dir() else []
        raise ConfigError(f"there is no file {place!r}{nearest(file.name, names)}, which {path!r} names")
    names = _bound(file) if place.endswith(".py") else None
    first = name.partition(".")[0]
    if names is not None and first not in names:
        known = sorted(one for one, imported in names.items() if not imported and not one.startswith("_"))
        if near := nearest(first, known):
            raise ConfigError(f"{place} has no {name!r}{near}; it has {listed(known)}")
    return place, name


def _bound(file: Path) -> dict[str, bool] | None:
    """The names that a file gives a value when it is run, and whether by import; None where reading cannot tell."""
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError as error:
        line = f", in line {error.lineno}" if error.lineno else ""
        raise RewardError(f"{file.name} cannot be imported: SyntaxError: {error.msg}{line}") from error
    found: dict[str, bool] = {}
    for top in tree.body:
        definition = isinstance(top, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for node in [top] if definition else ast.walk(top):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found[node.name] = False
            elif isinstance(node, ast.Import | ast.ImportFrom):
                found |= {(alias.asname or alias.name).partition(".")[0]: True for alias in node.names}
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found[node.id] = False
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return None if _OPEN & (found.keys() | used) else found


def _callables(module: Any) -> list[str]:
    return sorted(name for name in dir(module) if not name.startswith("_") and callable(getattr(module, name, None)))


def _from_file(file: Path) -> ModuleType:
    """Run a file as a module of its own; what stands beside it can be imported from it."""
    file = file.resolve()
    name = f"whet_reward_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise RewardError(f"{file.name} cannot be imported: {_said(error)}") from error
    return module


def _from_package(place: str, path: str) -> ModuleType:
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and (place == error.name or place.startswith(error.name + ".")):
            hint = f"; for a file write {place}.py:{path.rpartition(':')[2]}" if Path(f"{place}.py").is_file() else ""
            raise ConfigError(f"there is no module {error.name!r}, which {path!r} names{hint}") from error
        raise RewardError(f"{place} cannot be imported: {_said(error)}") from error
    except Exception as error:
        raise RewardError(f"{place} cannot be imported: {_said(error)}") from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
