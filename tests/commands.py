"""The real command in a forked process: signals that its own reward sends, rewards that misbehave, a folder in use."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import loop_cases
from forge import in_child
from kills import left

from whet.files import OS_FILES, OsFiles
from whet.recipes import recipe
from whet.recipes.params import OwnPass
from whet.recipes.stage import MakeConfig, Stage, Stages

REWARD = """
import json, os, pathlib, signal, time

HERE = pathlib.Path(__file__).parent

def plan():
    return json.loads((HERE / "plan.json").read_text()) if (HERE / "plan.json").exists() else {}

def send(name):
    os.kill(os.getpid(), getattr(signal, name))

if plan().get("import"):
    send("SIGINT")
    time.sleep(30)

def score(prompts, completions, **columns):
    calls = HERE / "calls"
    with calls.open("a") as stream:
        stream.write("x")
    act = plan().get(str(calls.stat().st_size), [])
    values = [sum(c.isalpha() for c in text) / max(1, len(text)) for text in completions]
    for one in act:
        if one.startswith("SIG"):
            send(one)
            time.sleep(1.0)  # two signals that arrive before the first was heard are one
        if one == "hang":
            time.sleep(30)
        if one == "wait":
            while not (HERE / "go").exists():
                time.sleep(0.01)
        if one == "raise":
            raise KeyError("no such answer")
        if one == "nan":
            values[1] = float("nan")
        if one == "none":
            values = [None for _ in values]
        if one == "short":
            values = values[1:]
    return values
"""

SUPERVISED = """
loop: supervised
model: {{path: {model}}}
data: {{path: {data}}}
optim: {{lr: {lr}}}
steps: 4
batch: 4
checkpoint: {{every: {every}, minutes: 0}}
"""
ONLINE = """
loop: online
model: {{path: {model}}}
data: {{path: {data}}}
rewards: [{{function: "{reward}:score", deadline: {deadline}}}]
sampling: {{max_new_tokens: 4, slots: 8}}
optim: {{lr: {lr}}}
steps: 4
prompts: 2
group: 2
checkpoint: {{every: {every}, minutes: 0}}
"""


def place(
    root: str,
    name: str,
    plan: Any = None,
    *,
    deadline: float = 20.0,
    lr: float = 0.01,
    every: int = 0,
    kind: str = "tasks",
) -> Path:
    """A user's folder: reward, data, a loop's file; `plan` says what the reward does at which call."""
    folder = Path(root) / name
    folder.mkdir()
    (folder / "my.py").write_text(REWARD)
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in loop_cases.rows(kind)))
    fields = {"model": Path(root) / "model", "data": "data.jsonl", "reward": "my.py"}
    text = ONLINE if kind == "tasks" else SUPERVISED
    (folder / "my.yaml").write_text(text.format(**fields, deadline=deadline, lr=lr, every=every))
    if plan:
        (folder / "plan.json").write_text(json.dumps(plan))
    return folder


def whet(folder: Path, *words: str, hook: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """The command in a folder: exit code, what it said, seconds."""
    said = folder / f"said-{len(list(folder.glob('said-*')))}"

    def work() -> None:
        from whet.cli import main

        os.chdir(folder)
        sys.argv = ["whet", *words]
        signal.signal(signal.SIGINT, signal.default_int_handler)
        hook()
        main()

    began = time.monotonic()
    code = in_child(work, said)
    return {"code": code, "said": said.read_text(), "seconds": time.monotonic() - began}


def state(folder: Path) -> dict[str, Any]:
    """What the run's stage has: checkpoints, rows, and digests of what an undisturbed run has as well."""
    (stage,) = (folder / "run" / "stages").iterdir()
    digests = left(folder, stage=stage.name)
    metrics = stage / "metrics.jsonl"
    last = "checkpoints/step_4"
    return {
        "saved": sorted(path.name for path in (stage / "checkpoints").glob("step_*")),
        "rows": len(metrics.read_text().splitlines()) if metrics.exists() else 0,
        "same": {
            k: v for k, v in digests.items() if k != "done.json" and (k.startswith(last) or "checkpoints" not in k)
        },
    }


def whole(root: str) -> dict[str, Any]:
    """The run that nobody disturbs."""
    folder = place(root, "whole")
    return {**whet(folder, "run", "my.yaml", "--out", "run"), **state(folder)}


def disturbed(root: str, name: str, plan: Any, *, resume: bool = True, **options: Any) -> dict[str, Any]:
    """A run whose reward follows a plan, its state, and what resuming it without the plan gives."""
    folder = place(root, name, plan, **options)
    first = whet(folder, "run", "my.yaml", "--out", "run")
    out = {**first, **state(folder)}
    (folder / "plan.json").unlink(missing_ok=True)
    if resume:
        out["resumed"] = {**whet(folder, "run", "my.yaml", "--out", "run", "--resume"), **state(folder)}
    return out


def placed(root: str, name: str, plan: Any) -> str:
    """A user's folder for a test that starts the command itself."""
    return str(place(root, name, plan))


def state_of(folder: str) -> dict[str, Any]:
    """See `state`."""
    return state(Path(folder))


def during_save(root: str) -> dict[str, Any]:
    """Ctrl-C in step 2, and again as its checkpoint is being written."""

    def again() -> None:
        fsync = OsFiles.fsync

        def signalling(self: OsFiles, descriptor: int) -> None:
            if "checkpoints/.tmp_2" in os.readlink(f"/proc/self/fd/{descriptor}"):
                os.kill(os.getpid(), signal.SIGINT)
            fsync(self, descriptor)

        OsFiles.fsync = signalling

    folder = place(root, "during-save", {"2": ["SIGINT"]}, every=1)
    out = {**whet(folder, "run", "my.yaml", "--out", "run", hook=again), **state(folder)}
    (folder / "plan.json").unlink()
    out["resumed"] = {**whet(folder, "run", "my.yaml", "--out", "run", "--resume"), **state(folder)}
    return out


def in_a_function_stage(root: str) -> dict[str, Any]:
    """Ctrl-C while a stage that is a function works; then resumed."""
    folder = place(root, "function")

    def known() -> None:
        @recipe
        def slow(params: OwnPass) -> Stages:
            """A stage that makes something slowly, for a test."""
            yield Stage(name="first", config=MakeConfig(function="commands:make", arguments={"slow": False}))
            yield Stage(name="second", config=MakeConfig(function="commands:make", arguments={"slow": True}))

    words = ("run", "slow", "model=m", "data=d", "--out", "run")
    first = whet(folder, *words, hook=known)
    done = sorted(path.parent.name for path in (folder / "run").rglob("done.json"))
    (folder / "go").touch()
    return {**first, "done": done, "resumed": whet(folder, *words, "--resume", hook=known)}


def make(folder: Path, *, live: Any, slow: bool) -> dict[str, Any]:
    """A stage's function: it interrupts itself and hangs, unless told to go on; a broad `except` does not hold it."""
    if slow and not Path("go").exists():
        os.kill(os.getpid(), signal.SIGINT)
        try:
            time.sleep(30)
        except Exception:
            time.sleep(30)
    return {"numbers": {"loss": 1.0}}


def two_processes(root: str) -> dict[str, Any]:
    """A second and a third process ask for the folder of one that is at work, which then ends undisturbed."""
    folder = place(root, "two", {"2": ["wait"]})
    first = os.fork()
    if first == 0:
        outcome = whet(folder, "run", "my.yaml", "--out", "run")
        OS_FILES.close(1)
        os._exit(outcome["code"])
    deadline = time.monotonic() + 60
    while not ((folder / "calls").exists() and (folder / "calls").stat().st_size == 2):
        assert os.waitpid(first, os.WNOHANG)[0] == 0 and time.monotonic() < deadline, (folder / "said-0").read_text()
        time.sleep(0.02)
    owner = json.loads((folder / "run" / ".lock").read_text())["pid"]
    others = [whet(folder, "run", "my.yaml", "--out", "run", *more) for more in (("--resume",), ())]
    (folder / "go").touch()
    code = os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
    return {"owner": owner, "others": others, "code": code, **state(folder)}
