"""One run of the quality row in a process of its own: `python -m benchmarks.quality_run START OUT JOB`.

START is the model folder both sides start from, JOB the fields of `quality_job.Job` as JSON. The measurements are
written to OUT, whole or not at all.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from benchmarks.machine import environment
from benchmarks.quality_job import Exam, Job, Stopwatch

SIDES = {"whet": "benchmarks.quality_whet", "trl": "benchmarks.quality_trl"}


def main(start: str, out: str, fields: str) -> None:
    """Train, measure, write."""
    import torch

    from whet.files import replace_file

    job = Job(**json.loads(fields))
    exam = Exam(Path(start), limit=job.limit)
    watch = Stopwatch(job, exam)
    weights = importlib.import_module(SIDES[job.side]).learn(job, Path(start), watch)
    found = {**watch.json(), "final": exam.final(weights), "environment": environment(torch.get_num_threads())}
    replace_file(Path(out), (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
