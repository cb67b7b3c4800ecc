"""One side of a comparison in a process of its own, which does one step each time it is asked.

    python -m benchmarks.side MODULE FOLDER WORKLOAD SETTING

MODULE has `libraries()`, which imports all it needs, and `work(workload, folder, clock, setting)`, which sets up, calls
`clock.ready`, and then for ever `clock.start()`, a step, `clock.stop()` and, with what it counted, `clock.tell()`.
Lines of JSON on stdin and stdout are the whole protocol; whatever else is printed goes to stderr. Nothing here imports
a library: any interpreter can be a side.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

from benchmarks.workloads import Shape, Workload

MIB = 2**20


class Clock:
    """Waits to be asked for a step, and says what it took: seconds, processor seconds, peak memory, counts."""

    def __init__(self, questions: TextIO, answers: TextIO) -> None:
        self._questions, self._answers = questions, answers
        self._born = time.perf_counter()
        self.baseline = 0.0
        self._began = self._worked = 0.0
        self._took: dict[str, float] = {}

    def loaded(self) -> None:
        """The libraries are imported: memory counts from here."""
        reset_peak()
        self.baseline = resident()

    def ready(self, settings: dict[str, Any]) -> None:
        """Set up; `settings` is what the table says of this side."""
        self._say({"ready": settings, "setup_seconds": time.perf_counter() - self._born})

    def start(self) -> None:
        """Wait until a step is asked for; the process ends where nobody asks any more. Earlier peaks are forgotten."""
        if self._questions.readline().strip() != "step":
            raise SystemExit(0)
        reset_peak()
        self._began, self._worked = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """The step is over; what comes now is neither timed nor in its memory."""
        seconds, cpu = time.perf_counter() - self._began, time.process_time() - self._worked
        self._took = {"seconds": seconds, "cpu": cpu, "memory": (peak() - self.baseline) / MIB}

    def tell(self, **counts: Any) -> None:
        """Answer with the step that was stopped and what was counted of it."""
        self._say({**self._took, "counts": counts})

    def failed(self, error: BaseException) -> None:
        """The side cannot go on."""
        self._say({"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"})

    def _say(self, answer: dict[str, Any]) -> None:
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()


def resident() -> float:
    """Bytes this process holds now (the most it has held, where the system does not say)."""
    return _status("VmRSS") or _most()


def peak() -> float:
    """The most bytes this process has held since `reset_peak`, or ever, where that cannot be reset."""
    return _status("VmHWM") or _most()


def reset_peak() -> None:
    """Let the peak start again from what is held now; systems without /proc keep theirs."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> float | None:
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":")), None)


def _most() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)


def workload_from(fields: dict[str, Any]) -> Workload:
    """The inverse of `dataclasses.asdict`."""
    return Workload(**{**fields, "shape": Shape(**fields["shape"])})


def main(module: str, folder: str, fields: str, setting: str) -> None:
    """Serve one side until nobody asks any more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    clock = Clock(sys.stdin, answers)
    try:
        side = importlib.import_module(module)
        side.libraries()
        clock.loaded()
        side.work(workload_from(json.loads(fields)), Path(folder), clock, json.loads(setting))
    except Exception as error:
        traceback.print_exc()
        clock.failed(error)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main(*sys.argv[1:])
