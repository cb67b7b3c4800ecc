"""Run folders with a few rows, for the tests of what is written there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from whet.rundir import RunDir

CONFIG = {"optim": {"lr": 1e-6}, "steps": 3}


def new(path: Path, **options: Any) -> RunDir:
    return RunDir.create(path, CONFIG, origins={"optim.lr": "command line"}, environment={"threads": 1}, **options)


def filled(path: Path, steps: int) -> RunDir:
    run = new(path)
    for step in range(1, steps + 1):
        run.commit(step, metrics={"loss": 1 / step}, timing={"seconds": 0.1}, rollouts=[rollout(step)])
    return run


def rollout(step: int, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "run": "a",
        "stage": None,
        "step": step,
        "task_id": "task-1",
        "occurrence": 0,
        "index": 2,
        "prompt": "2 + 2 =",
        "completion": " 4\n\u2028π\ud800",
        "tokens": [5, 6],
        "source": [["sampled", 2]],
        "logprobs": np.array([-0.1, -0.25], dtype=np.float32),
        "advantage": 0.5,
        "reward": None,
        "parts": {"exact": 1.0},
        "stopped": "stop",
        "length": 2,
    }
    return row | changes
