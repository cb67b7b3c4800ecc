"""The command `whet` as a user meets it, in this process: words in, exit code and what it printed out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from whet.cli import main


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one error: what stands behind `whet:`."""
        head, found, text = self.err.partition("whet: ")
        assert found and (not head or head.endswith("\n")), self
        return text.strip()

    def refused(self, code: int, *parts: str) -> Said:
        """Ended with this code and one error that holds all the parts; never a traceback."""
        assert self.code == code, self
        assert "Traceback" not in self.err + self.out and self.err.count("whet: ") == 1, self
        for part in parts:
            assert part in self.sentence, (part, self.sentence)
        return self


Whet = Callable[..., Said]


def console(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Whet:
    """The command, called with its words."""

    def whet(*words: object, width: int = 200) -> Said:
        monkeypatch.setattr(sys, "argv", ["whet", *map(str, words)])
        monkeypatch.setenv("COLUMNS", str(width))
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return Said(code=code, out=said.out, err=said.err)

    return whet


def write(path: Path, rows: Iterable[Any]) -> Path:
    """Rows as JSON lines; a text is a line as it stands."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


SUMS = [(f"What is {10 + i} + {i + 1} ?", str(11 + 2 * i)) for i in range(12)]
TASKS = [{"prompt": [{"role": "user", "content": q}], "answer": a} for q, a in SUMS]
PAIRS = [{"prompt": q, "chosen": a, "rejected": f"{a} 0"} for q, a in SUMS]
CHATS = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in SUMS]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
