"""Between loading a model and its first step little happens: no library is loaded, the model is only proved."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
import json, sys
from pathlib import Path
from loop_cases import CASES, save_tiny_model
from whet.build import models
from whet.build.loops import prepare
from whet.models.config import ModelConfig
from whet.models.io import load_policy
from whet.models.policy import Decoder
from whet.rundir import RunDir

case, folder = sys.argv[1], Path(sys.argv[2])
save_tiny_model(folder / "model")
load_policy(ModelConfig(path=str(folder / "model")))
before, calls = set(sys.modules), []
whole = Decoder.hidden


def counted(self, batch, **rest):
    calls.append(batch.tokens.numel())
    return whole(self, batch, **rest)


Decoder.hidden = counted


class Begun(Exception):
    pass


class Watcher:
    def begin(self, total):
        raise Begun

    def update(self, step, metrics):
        raise AssertionError("no step was asked for")


made = CASES[case](folder / "model")
try:
    with RunDir.create(folder / "run", {"case": case}, origins={}, environment={}) as run:
        job = prepare(made.config, run, watchers=[Watcher()], objects=made.objects)
        with job.session:
            job.work()
except Begun:
    new = {name.partition(".")[0] for name in set(sys.modules) - before}
    print(json.dumps({"modules": sorted(new - set(sys.stdlib_module_names)), "calls": len(calls)}))
"""


@pytest.mark.parametrize("case", ["supervised", "ppo"])
def test_the_first_step_waits_for_nothing(case: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, case, str(tmp_path)]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1", "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found["modules"]) <= {"whet"}, "a library that a step does not need is loaded before it"
    assert found["calls"] <= 2 * (1 + (case == "ppo")), "each model is proved on one small batch, and nothing else runs"
