"""`whet audit`: a dataset, looked at before anything learns from it → a table and a page. Imports no torch."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from whet.build.check import check_data, check_model
from whet.config import Config, load
from whet.data.config import DataConfig
from whet.errors import ConfigError
from whet.names import LAB, is_lab
from whet.words import listed

if TYPE_CHECKING:
    from whet.data.render import Renderer
    from whet.data.rows import Row


TOKENS = ("uncounted", "max_length", "max_prompt")
"""Options of a dataset that are about tokens, which only a tokenizer can count."""


class AuditConfig(Config):
    """What `whet audit` takes as KEY=VALUE, beside the options of a dataset (`split=test`, `max_rows=1000`)."""

    data: DataConfig
    """The dataset."""
    eval: DataConfig | None = None
    """A second dataset, `eval=FILE`: which of its prompts are also learned from."""
    model: str | None = None
    """A model's folder or name: its tokenizer, chat template and context."""
    out: str | None = None
    """Also write a page to this file, as in `out=audit.html`."""


def audit_command(data: str, settings: Sequence[str]) -> None:
    """Parse, look, print, and write the page that was asked for."""
    spelt = [f"data.path={data}", *(_spelt(text) for text in settings)]
    config = load(AuditConfig, overrides=spelt, name="whet audit").value
    print_audit(config, command=shlex.join(["whet", "audit", data, *settings]))


def _spelt(text: str) -> str:
    """An option of the dataset by its short name; `eval=FILE` is `eval.path=FILE`."""
    root = text.partition("=")[0].partition(".")[0]
    if text.startswith("eval="):
        return f"eval.path={text.removeprefix('eval=')}"
    return f"data.{text}" if root in DataConfig.model_fields else text


def print_audit(config: AuditConfig, *, command: str) -> None:
    """The table on the terminal, and the page."""
    from rich.console import Console

    from whet.data.audit import audit
    from whet.report.audit import terminal, write_audit

    out = Path(config.out) if config.out is not None else None
    if out is not None and not out.parent.is_dir():
        raise ConfigError(f"out={out} cannot be written: there is no folder {str(out.parent)!r}; make it first")
    if config.model is None and (tokens := [key for key in TOKENS if getattr(config.data, key)]):
        raise ConfigError(f"{listed(tokens)} names tokens, so give model=FOLDER for its tokenizer")
    found, held = _rows(config.data), _rows(config.eval) if config.eval is not None else None
    renderer = _renderer(config.model) if config.model is not None else None
    made = audit(found, config=config.data, renderer=renderer, held=held)
    console = Console(highlight=False)
    console.print(terminal(made, config.data))
    if out is not None:
        write_audit(out, made, config.data, title=", ".join(config.data.paths), command=command)
        console.print(f"\npage  {out}", highlight=False, soft_wrap=True)


def _rows(config: DataConfig) -> list[Row]:
    check_data(config, {})
    if is_lab(config.path):
        from whet.build.data import rows

        return rows(config, {})
    from whet.data.readers import read_rows

    return list(read_rows(config))


def _renderer(path: str) -> Renderer:
    """How a model's conversations become tokens; its weights are not read."""
    check_model(path)
    from whet.models.tokenizer import renderer_at

    if path.startswith(LAB):
        from whet.lab import base_model_path

        path = str(base_model_path(path.removeprefix(LAB)))
    return renderer_at(path)
