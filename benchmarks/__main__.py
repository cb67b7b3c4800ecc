"""Time Whet and its peers at the same work, in turns, and print ratios, goals and the share of the machine's limit.

python -m benchmarks                               every row
python -m benchmarks grpo dpo-live --small         two rows at about a tenth of the work
python -m benchmarks sample --vllm PYTHON          with vLLM, which PYTHON, an interpreter of its own, can import
python -m benchmarks head                          peak memory of the language-model head (benchmarks/head_memory.py)
python -m benchmarks quality --help                processor time to a held-out pass@1 (benchmarks/quality.py)
python -m benchmarks scaling --help                how a step's cost grows (benchmarks/scaling.py)

Numbers are written after every row. Given the same --out again, rows that it holds from the same commit at the same
settings are kept, and the others are measured.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import material, table
from benchmarks.contenders import OURS, VLLM_MISSING, Contender, contenders
from benchmarks.duel import ROOT, duel
from benchmarks.machine import environment
from benchmarks.workloads import SHAPES, Workload, workloads

HEAD = "head"
FULL_HEAD, SMALL_HEAD = (8192, 256, 131_072), (2048, 256, 32_768)
ALONE = ("quality", "scaling")
"""Rows with a command of their own, which gets the words behind the name."""
Casting = Callable[..., dict[str, Contender]]


def main(arguments: Sequence[str] | None = None, *, cast: Casting = contenders) -> int:
    """Run the chosen rows; the number of rows in which a side failed is the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in ALONE:
        return importlib.import_module(f"benchmarks.{words[0]}").main(words[1:])
    parser = _parser()
    asked = parser.parse_args(words)
    known = workloads(model=asked.model, small=asked.small)
    for name in asked.names:
        if name not in (*known, HEAD):
            parser.error(f"no row is called {name}; rows: {', '.join((*known, HEAD))}")
    chosen = [_changed(known[name], asked) for name in asked.names or known if name != HEAD]
    casts = {row.name: _chosen(parser, cast(row, vllm=asked.vllm), asked.peers) for row in chosen}
    machine = environment(asked.threads)
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    results = Results(Path(asked.out), machine)
    logs = Path(asked.logs or tempfile.mkdtemp(prefix="whet-benchmarks-"))
    logs.mkdir(parents=True, exist_ok=True)
    if HEAD in asked.names or not asked.names:
        results.head = _head(SMALL_HEAD if asked.small else FULL_HEAD, logs / "head.json")
        results.write()
    rows = [_row(results, row, casts[row.name], asked, machine, logs) for row in chosen]
    if rows:
        print("\n".join(["", *table.lines_of(rows), "", table.MEANING]))
    print(f"numbers: {asked.out}, what the sides said: {logs}")
    return sum(bool(row["failed"]) for row in rows)


class Results:
    """The rows of a file, of this run and of earlier ones."""

    def __init__(self, path: Path, machine: Mapping[str, Any]) -> None:
        self.path, self.machine = path, machine
        before = table.read(path)
        self.rows: list[dict[str, Any]] = before["rows"]
        self.head = before["head"]

    def kept(self, asked: Mapping[str, Any]) -> dict[str, Any] | None:
        """The row that was measured just so, by all of its sides; none where files differ from their commit."""
        if str(asked["commit"]).endswith("+"):
            return None
        same = [row for row in self.rows if row.get("asked") == asked and not row["failed"]]
        return same[0] if same else None

    def add(self, row: dict[str, Any]) -> None:
        """Write a row in place of an earlier one of its name, model and size."""
        place = _place(row)
        self.rows = [*(other for other in self.rows if _place(other) != place), row]
        self.write()

    def write(self) -> None:
        table.write(self.path, self.rows, self.machine, head=self.head)


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["name"], row["model"], row["small"]


def _row(
    results: Results,
    workload: Workload,
    sides: Mapping[str, Contender],
    asked: argparse.Namespace,
    machine: Mapping[str, Any],
    logs: Path,
) -> dict[str, Any]:
    """One row: as it stands in the file where it was measured just so, else measured, printed and written."""
    settings = {name: getattr(asked, name) for name in ("rounds", "warmups", "threads")}
    same = {**settings, "commit": machine["commit"], "workload": asdict(workload)}
    same["sides"] = {name: side.fields for name, side in sides.items()}
    row = results.kept(same)
    if row is not None:
        print(f"{workload.name}: kept from {results.path}", flush=True)
        return row
    with tempfile.TemporaryDirectory() as folder:
        material.make(workload, Path(folder))
        outcomes = duel(workload, Path(folder), sides, **settings, logs=logs)
    row = table.row_of(workload, outcomes, model=asked.model, small=asked.small) | {"asked": same}
    if workload.kind == "sample" and asked.vllm is None:
        row["notes"] = [VLLM_MISSING]
    results.add(row)
    print("\n".join(table.cells_of([row])), flush=True)
    return row


def _chosen(
    parser: argparse.ArgumentParser, sides: Mapping[str, Contender], wanted: str | None
) -> dict[str, Contender]:
    """Whet and the peers that were asked for: a row without any of them takes all of its own."""
    names = set(sides) if wanted is None else {OURS, *wanted.split(",")}
    chosen = {name: side for name, side in sides.items() if name in names}
    if len(chosen) < 2:
        parser.error(f"--peers {wanted} names no peer of a chosen row; its peers: {', '.join(list(sides)[1:])}")
    return chosen


def _head(size: tuple[int, int, int], out: Path) -> dict[str, Any]:
    """The head's memory, measured and printed by a process that has run nothing else."""
    words = [str(number) for number in size]
    command = [sys.executable, "-m", "benchmarks.head_memory", *words, "--json", str(out)]
    subprocess.run(command, check=True, cwd=ROOT)
    return json.loads(out.read_text())


def _changed(workload: Workload, asked: argparse.Namespace) -> Workload:
    given = {"micro": asked.micro, "budget": asked.budget, "slots": asked.slots}
    return replace(workload, **{name: value for name, value in given.items() if value is not None})


def _parser() -> argparse.ArgumentParser:
    kept = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, formatter_class=kept)
    names = [*workloads(), HEAD]
    parser.add_argument("names", nargs="*", metavar="name", help=f"rows: {', '.join(names)}")
    parser.add_argument("--model", choices=[*SHAPES], default="7M", help="size of the Llama")
    parser.add_argument("--small", action="store_true", help="about a tenth of the work")
    parser.add_argument("--vllm", metavar="PYTHON", help="interpreter that has vLLM, for the rows that sample")
    parser.add_argument("--peers", metavar="NAME,…", help="only these peers (benchmarks/contenders.py)")
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each side")
    parser.add_argument("--warmups", type=int, default=1, help="untimed steps before them")
    parser.add_argument("--threads", type=int, default=2, help="threads of each side")
    parser.add_argument("--micro", type=int, help="sequences that a peer computes at once where it cuts a step")
    parser.add_argument("--budget", type=int, help="tokens that Whet computes at once")
    parser.add_argument("--slots", type=int, help="responses that Whet samples side by side")
    parser.add_argument("--out", default="benchmarks.json", help="where the numbers go")
    parser.add_argument("--logs", help="folder for what the sides print")
    return parser


if __name__ == "__main__":
    sys.exit(main())
