"""Time Whet and TRL at the same work, alternating, and print ratios.

    python -m benchmarks                     every row
    python -m benchmarks grpo dpo --small    two rows at about a tenth of the work
    python -m benchmarks head                peak memory of the language-model head (benchmarks/head_memory.py)
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import table
from benchmarks.duel import compare
from benchmarks.workloads import SHAPES, Workload, workloads

SIDES = {table.OURS: "benchmarks.whet_side", table.THEIRS: "benchmarks.trl_side"}


def main(arguments: Sequence[str] | None = None, *, sides: Mapping[str, str] = SIDES) -> int:
    """Run the chosen rows; the number of rows in which a side failed is the exit status."""
    asked = _parser().parse_args(arguments)
    known = workloads(model=asked.model, small=asked.small)
    chosen = [_changed(known[name], asked) for name in asked.names or known]
    machine = table.environment(asked.threads)
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    rows = []
    logs = Path(asked.logs or tempfile.mkdtemp(prefix="whet-benchmarks-"))
    logs.mkdir(parents=True, exist_ok=True)
    settings = {"rounds": asked.rounds, "warmups": asked.warmups, "threads": asked.threads, "logs": logs}
    for workload, outcomes in compare(chosen, sides, **settings):
        rows.append(table.row_of(workload, outcomes))
        print("\n".join(table.lines_of(rows[-1:])[1:]), flush=True)
        table.write(Path(asked.out), rows, machine)
    print("\n".join(["", *table.lines_of(rows), "", table.MEANING, f"numbers: {asked.out}, what the sides said: {logs}"]))
    return sum(bool(row["failed"]) for row in rows)


def _changed(workload: Workload, asked: argparse.Namespace) -> Workload:
    given = {"micro": asked.micro, "budget": asked.budget, "slots": asked.slots}
    return replace(workload, **{name: value for name, value in given.items() if value is not None})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*workloads()], metavar="name", help=f"rows: {', '.join(workloads())}")
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
