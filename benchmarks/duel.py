"""Sides taking turns at one workload: A B C A B C …, each in its own process, idle while another works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contenders import Contender
from benchmarks.workloads import Workload

ROOT = Path(__file__).resolve().parent.parent


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What one side did: a list entry per timed step, and why it stopped early, if it did."""

    settings: dict[str, Any] = field(default_factory=dict)
    setup_seconds: float | None = None
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    counts: list[dict[str, Any]] = field(default_factory=list)
    failed: str | None = None


class Side:
    """A process that does one step each time it is asked."""

    def __init__(self, contender: Contender, workload: Workload, folder: Path, log: Path, *, threads: int) -> None:
        self.outcome = Outcome()
        self._log = log
        words = [contender.module, str(folder), json.dumps(asdict(workload)), json.dumps(dict(contender.setting))]
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                [contender.python or sys.executable, "-m", "benchmarks.side", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=ROOT,
                env=_environment(contender, threads),
            )

    def set_up(self) -> None:
        """Wait until the side is ready."""
        answer = self._hear()
        if answer is not None:
            self.outcome.settings, self.outcome.setup_seconds = answer["ready"], answer["setup_seconds"]

    def step(self, *, timed: bool) -> None:
        """Ask for one step; a side that failed stays silent."""
        if self.outcome.failed is not None:
            return
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("step\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the process is gone: what it said last, or its status, is heard below
        answer = self._hear()
        if answer is None:
            return
        took = f"{answer['seconds']:.2f} s, {answer['cpu']:.2f} s of processor, {answer['memory']:.0f} MiB"
        print(f"{self._log.stem}: {took}", file=sys.stderr, flush=True)
        if timed:
            for name in ("seconds", "cpu", "memory", "counts"):
                getattr(self.outcome, name).append(answer[name])

    def close(self) -> None:
        """Nobody asks any more."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=30)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _hear(self) -> dict[str, Any] | None:
        """The next answer, or None where there is none and `failed` says why."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"failed": self._silence()}
        if "failed" in answer:
            self.outcome.failed = answer["failed"]
            return None
        return answer

    def _silence(self) -> str:
        said = self._log.read_text().strip().splitlines()[-1:]
        return f"ended with status {self._process.wait()}" + "".join(f", last words: {line}" for line in said)


def _environment(contender: Contender, threads: int) -> dict[str, str]:
    # another interpreter's libraries are no business of this one's path
    paths = [str(ROOT)] if contender.python else [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return (
        os.environ
        | {
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "PYTHONPATH": os.pathsep.join(paths),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "CUDA_VISIBLE_DEVICES": "",
        }
        | dict(contender.environment)
    )


def duel(
    workload: Workload,
    folder: Path,
    sides: Mapping[str, Contender],
    *,
    rounds: int,
    warmups: int,
    threads: int,
    logs: Path,
) -> dict[str, Outcome]:
    """`rounds` timed steps of each side in turns, after `warmups` untimed ones."""
    with ExitStack() as stack:
        running: dict[str, Side] = {}
        for name, contender in sides.items():
            log = logs / f"{workload.name}-{name}.log"
            running[name] = stack.enter_context(_closing(Side(contender, workload, folder, log, threads=threads)))
            running[name].set_up()
        for turn in range(warmups + rounds):
            for side in running.values():
                side.step(timed=turn >= warmups)
    return {name: side.outcome for name, side in running.items()}


@contextmanager
def _closing(side: Side) -> Iterator[Side]:
    try:
        yield side
    finally:
        side.close()
