"""SIGKILL at counted moments of a run, and what a resumed run leaves, compared with an undisturbed one.

A moment is an event: a decoding step, a call of a reward, a forward, an optimizer step, a file operation. Counting
them is all that is deterministic about a kill, and all it needs.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import loop_cases
import torch
from crashes import ActingFiles
from forge import in_child

from whet.build.loops import prepare as build
from whet.build.models import policy
from whet.errors import NumericsError
from whet.files import OS_FILES
from whet.models.policy import Decoder
from whet.rewards.functions import FunctionReward
from whet.rollout.running import Batch
from whet.rundir import RunDir
from whet.train.learner import Learner

AREAS = {"checkpoints": "save", "final": "final", "journal.jsonl": "journal", "done.json": "done"}


class Clock:
    """Counts events by name; at number `kill_at` it notes the place and kills the process."""

    def __init__(self, log: Path, *, kill_at: int | None) -> None:
        self.kill_at, self.count = kill_at, 0
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def event(self, name: str, before_death: Callable[[], object] = lambda: None) -> None:
        self.count += 1
        os.write(self._log, f"{name}\n".encode())
        if self.count == self.kill_at:
            before_death()
            os.kill(os.getpid(), signal.SIGKILL)


def counted_files(clock: Clock, root: Path) -> ActingFiles:
    """The real files, each operation an event named by what it is done to; a write is cut in half before a kill."""
    names: dict[int, str] = {}

    def act(count: int, operation: str, arguments: tuple[Any, ...]) -> None:
        target = arguments[0]
        if operation == "free_bytes":
            return
        place = os.path.relpath(target if isinstance(target, Path) else names[target], root)
        area = next((area for word, area in AREAS.items() if word in place), "rows")

        def half() -> None:
            if operation == "write":
                OS_FILES.write(target, arguments[1][: len(arguments[1]) // 2])

        clock.event(f"{area} {operation} {place.replace(str(os.getpid()), 'PID')}", half)

    class Named(ActingFiles):
        def __getattr__(self, name: str) -> Callable[..., Any]:
            call = super().__getattr__(name)
            if name not in ("create", "append"):
                return call

            def opening(path: Path) -> int:
                descriptor = call(path)
                names[descriptor] = str(path)
                return descriptor

            return opening

    return Named(act)


def count_work(clock: Clock) -> None:
    """Make events of sampling, scoring, forwards and optimizer steps; only in a child, whose modules are its own."""

    def before(owner: Any, name: str, event: Callable[[], str]) -> None:
        original = getattr(owner, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            clock.event(event())
            return original(*arguments, **named)

        setattr(owner, name, counted)

    before(Batch, "advance", lambda: "sampling")
    before(FunctionReward, "__call__", lambda: "scoring")
    before(Decoder, "forward", lambda: "update forward" if torch.is_grad_enabled() else "forward")
    before(torch.Tensor, "backward", lambda: "update backward")
    before(Learner, "tick", lambda: "update optimizer step")


def run(case: str, folder: Path, *, kill_at: int | None = None) -> tuple[int, list[str]]:
    """One process of the run in `folder`/run, from whatever is there: its exit code, and the events that it saw."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"events-{len(list(folder.glob('events-*')))}"
    model = folder.parents[1] / "model"

    def work() -> None:
        clock = Clock(log, kill_at=kill_at)
        count_work(clock)
        made = loop_cases.moody(model, folder / "calls") if case == "moody" else loop_cases.CASES[case](model)
        loop_cases.drive(made, folder / "run", files=counted_files(clock, folder / "run"))

    code = in_child(work, folder / "said")
    return code, log.read_text().splitlines()


def left(folder: Path, *, stage: str = "01-loop") -> dict[str, str]:
    """A digest of everything that must be the same: rows, every checkpoint, the final model, the marker."""
    place = folder / "run" / "stages" / stage
    single = [place / f"{name}.jsonl" for name in ("metrics", "rollouts", "evals")] + [place / "done.json"]
    trees = [path for name in ("checkpoints", "final") for path in sorted((place / name).rglob("*")) if path.is_file()]
    return {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in [*single, *trees]
        if path.exists()
    }


def prepare(root: str) -> None:
    """The folder of a campaign with its model."""
    place = Path(root)
    code = in_child(lambda: loop_cases.save_tiny_model(place / "model"), place / "said")
    assert code == 0, (place / "said").read_text()


def undisturbed(root: str, case: str) -> list[str]:
    """Run a case without a kill in `root`/case/whole; returns its events."""
    folder = Path(root) / case / "whole"
    code, lived = run(case, folder)
    assert code == 0, (folder / "said").read_text()
    return lived


def events(root: str, case: str) -> list[str]:
    """The events of an undisturbed run, which is made if it is not there."""
    log = Path(root) / case / "whole" / "events-0"
    return log.read_text().splitlines() if log.exists() else undisturbed(root, case)


def killed(root: str, case: str, at: Sequence[int]) -> dict[str, Any]:
    """Kill a run at event at[0], its resumed self at event at[1] …, then let it end: places, and what differs."""
    whole = Path(root) / case / "whole"
    folder = whole.parent / f"at-{'-'.join(map(str, at))}"
    places = []
    for number in at:
        code, lived = run(case, folder, kill_at=number)
        assert code == -signal.SIGKILL and len(lived) == number, (code, len(lived), (folder / "said").read_text())
        places.append(lived[-1])
    code, _ = run(case, folder)
    assert code == 0, (folder / "said").read_text()
    calls = [(place / "calls").stat().st_size for place in (whole, folder)] if case == "moody" else []
    return {"places": places, "calls": calls, **compared(folder)}


def compared(folder: Path) -> dict[str, Any]:
    """What a run left otherwise than the whole one beside it, and what it left behind."""
    expected, found = left(folder.parent / "whole"), left(folder)
    return {
        "different": sorted(key for key in {*expected, *found} if expected.get(key) != found.get(key)),
        "leftovers": [str(p) for p in folder.rglob(".*") if p.name.startswith((".tmp_", ".old_"))],
        "compared": sorted(expected),
    }


def law(root: str, case: str) -> dict[str, list[str]]:
    """What a case's loop is given and its checkpoints forget, and what the law says where something is forgotten."""
    place = Path(root) / "law" / case
    place.mkdir(parents=True)

    def work() -> None:
        made = loop_cases.CASES[case](Path(root) / "model")
        with RunDir.create(place / "run", {}, origins={}, environment={}) as run:
            job = build(made.config, run, objects=made.objects)
            more = replace(job, work=partial(job.work, pool=loop_cases.Drifting()))
            unfrozen = replace(job, work=partial(job.work, opponent=policy(made.config.model, seed=0)))
            said = {name: loop_cases.forgotten(j) for name, j in (("job", job), ("pool", more), ("opponent", unfrozen))}
            (place / "said.json").write_text(json.dumps(said))

    code = in_child(work, place / "said")
    assert code == 0, (place / "said").read_text()
    return json.loads((place / "said.json").read_text())


def unjudged(root: str, case: str) -> list[dict[str, Any]]:
    """The metrics of a run in which one of two answers to each prompt is judged."""
    folder = Path(root) / case / "sparse"
    folder.mkdir(parents=True, exist_ok=True)
    made = loop_cases.CASES[case]
    code = in_child(
        lambda: loop_cases.drive(loop_cases.sparse(made(Path(root) / "model")), folder / "run"), folder / "said"
    )
    assert code == 0, (folder / "said").read_text()
    rows = (folder / "run" / "stages" / "01-loop" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(row) for row in rows]


def with_another_clock(root: str, case: str) -> dict[str, Any]:
    """The run once more under a clock that goes back an hour at each look: what differs."""
    events(root, case)
    folder = Path(root) / case / "clock"
    folder.mkdir()

    def work() -> None:
        looks = count()
        time.time = lambda: 1e9 - 3600.0 * next(looks)
        loop_cases.drive(loop_cases.CASES[case](Path(root) / "model"), folder / "run")

    code = in_child(work, folder / "said")
    assert code == 0, (folder / "said").read_text()
    return compared(folder)


def failing_tick(root: str, case: str, number: int) -> dict[str, Any]:
    """A run whose optimizers refuse their n-th step, then the same run without that: what was said, what differs."""
    events(root, case)
    folder = Path(root) / case / f"tick-{number}"
    folder.mkdir()

    def work() -> None:
        ticks, tick = count(1), Learner.tick

        def refusing(self: Learner) -> float:
            if next(ticks) == number:
                raise NumericsError("not finite: a loss")
            return tick(self)

        Learner.tick = refusing
        try:
            loop_cases.drive(loop_cases.CASES[case](Path(root) / "model"), folder / "run")
        except NumericsError as error:
            (folder / "error").write_text(str(error))

    assert in_child(work, folder / "said") == 0, (folder / "said").read_text()
    stage = folder / "run" / "stages" / "01-loop"
    saved = sorted(path.name for path in (stage / "checkpoints").glob("step_*"))
    rows = len((stage / "metrics.jsonl").read_text().splitlines())
    code, _ = run(case, folder)
    assert code == 0, (folder / "said").read_text()
    return {"error": (folder / "error").read_text(), "saved": saved, "rows": rows, **compared(folder)}
