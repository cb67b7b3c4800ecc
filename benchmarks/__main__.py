"""Time Whet and TRL at the same work, alternating, and print ratios.

python -m benchmarks                     every row
python -m benchmarks grpo dpo --small    two rows at about a tenth of the work
python -m benchmarks head                peak memory of the language-model head (benchmarks/head_memory.py)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import table
from benchmarks.duel import ROOT, compare
from benchmarks.workloads import SHAPES, Workload, workloads

HEAD = "head"
FULL_HEAD, SMALL_HEAD = (8192, 256, 131_072), (2048, 256, 32_768)
SIDES = {table.OURS: "benchmarks.whet_side", table.THEIRS: "benchmarks.trl_side"}


def main(arguments: Sequence[str] | None = None, *, sides: Mapping[str, str] = SIDES) -> int:
    """Run the chosen rows; the number of rows in which a side failed is the exit status."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    known = workloads(model=asked.model, small=asked.small)
    for name in asked.names:
        if name not in (*known, HEAD):
            parser.error(f"no row is called {name}; rows: {', '.join((*known, HEAD))}")
    chosen = [_changed(known[name], asked) for name in asked.names or known if name != HEAD]
    machine = table.environment(asked.threads)
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    rows, head = [], None
    logs = Path(asked.logs or tempfile.mkdtemp(prefix="whet-benchmarks-"))
    logs.mkdir(parents=True, exist_ok=True)
    if HEAD in asked.names or not asked.names:
        head = _head(SMALL_HEAD if asked.small else FULL_HEAD, logs / "head.json")
        table.write(Path(asked.out), rows, machine, head=head)
    settings = {"rounds": asked.rounds, "warmups": asked.warmups, "threads": asked.threads, "logs": logs}
    for workload, outcomes in compare(chosen, sides, **settings):
        rows.append(table.row_of(workload, outcomes))
        print("\n".join(table.lines_of(rows[-1:])[1:]), flush=True)
        table.write(Path(asked.out), rows, machine, head=head)
    where = f"numbers: {asked.out}, what the sides said: {logs}"
    print("\n".join(["", *table.lines_of(rows), "", table.MEANING, where]))
    return sum(bool(row["failed"]) for row in rows)


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
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each side")
    parser.add_argument("--warmups", type=int, default=1, help="untimed steps before them")
    parser.add_argument("--threads", type=int, default=2, help="threads of each side")
    parser.add_argument("--micro", type=int, help="sequences that TRL computes at once")
    parser.add_argument("--budget", type=int, help="tokens that Whet computes at once")
    parser.add_argument("--slots", type=int, help="responses that Whet samples side by side")
    parser.add_argument("--out", default="benchmarks.json", help="where the numbers go")
    parser.add_argument("--logs", help="folder for what the sides print")
    return parser


if __name__ == "__main__":
    sys.exit(main())
