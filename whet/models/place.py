"""Where a model is: a folder, a hub name, or what a run trained last. Importing this imports no torch."""

from __future__ import annotations

import json
import re
from pathlib import Path

from whet.errors import ModelError
from whet.words import nearest

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
ADAPTER = "adapter_config.json"


def model_of(path: str) -> str:
    """The model that a run's folder, or a stage's, ends with; any other folder or name as it is.

    >>> model_of("Qwen/Qwen2.5-1.5B")
    'Qwen/Qwen2.5-1.5B'
    """
    folder = Path(path).expanduser()
    if not (folder / "stages").is_dir():
        return str(folder / "final") if (folder / "final").is_dir() else path
    finished = [final for stage in sorted((folder / "stages").iterdir()) if (final := stage / "final").is_dir()]
    if not finished:
        raise ModelError(
            f"{path} is a run without a finished model; let it finish (--out {path} --resume), or give a model's folder"
        )
    return str(finished[-1])


def base_of(path: str) -> str:
    """The folder or hub name that holds the weights: an adapter's base, else `path` itself; checked to exist."""
    folder = Path(path).expanduser()
    if not folder.exists():
        beside = folder.parent.is_dir()  # where runs/ is a folder, runs/grop-1 is a misspelt folder and no hub name
        if HUB_NAME.fullmatch(path) and not beside:
            return path
        near = nearest(folder.name, [p.name for p in folder.parent.iterdir()]) if beside else ""
        raise ModelError(f"{path} is no folder{near} and no hub name like owner/name; give the path of a model folder")
    if (folder / ADAPTER).exists():
        return base_of(str(json.loads((folder / ADAPTER).read_text())["base_model_name_or_path"]))
    if not (folder / "config.json").exists():
        raise ModelError(f"{path} is no model: it has no config.json; give a folder as written by save_pretrained")
    return path
