"""One run of a loop: which step is next, what a step leaves behind, and how it stops."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from whet.errors import Interrupted
from whet.metrics import Metric, values
from whet.rundir import RunDir
from whet.train.checkpoint import HasState, Identity, Keep, load_latest, restore, save, state_of
from whet.train.config import CheckpointConfig, EvalConfig
from whet.train.interrupts import Interrupts


class Watcher(Protocol):
    """Someone who is told each step's numbers: the live display, a tracker."""

    def begin(self, total: int) -> None: ...

    def update(self, step: int, metrics: Mapping[str, float]) -> None: ...


class Session:
    """Steps of a loop on a run folder: resumes from the newest checkpoint that verifies, commits, saves, stops.

    `parts` is everything with a state that the loop was given; all of it is in every checkpoint.
    """

    def __init__(
        self,
        run: RunDir,
        *,
        parts: Mapping[str, HasState],
        identity: Identity,
        checkpoint: CheckpointConfig,
        evaluation: EvalConfig,
        evaluate: Callable[[int], dict[str, float]] | None = None,
        watchers: Iterable[Watcher] = (),
        interrupts: Interrupts | None = None,
    ) -> None:
        self.run, self._parts, self._identity = run, dict(parts), identity
        self._checkpoint, self._evaluation, self._evaluate = checkpoint, evaluation, evaluate
        self._watchers, self._interrupts = list(watchers), interrupts or Interrupts()
        self._total, self._began = 0, 0.0
        self._eval_metrics: dict[str, float] = {}

    def steps(self, total: int) -> Iterator[int]:
        """1 … total, or what is left of it after the newest checkpoint; rows of later steps are set aside first."""
        self._total = total
        done = self._resume()
        for watcher in self._watchers:
            watcher.begin(total)
        for step in range(done + 1, total + 1):
            self._began = time.monotonic()
            yield step

    def _resume(self) -> int:
        loaded = load_latest(self.run.checkpoints, identity=self._identity)
        if loaded is not None:
            restore(loaded, self._parts)
            for path, reason in loaded.rejected:
                self.run.event("warning", text=f"{path.name} was passed over: {reason}")
            for text in loaded.warnings:
                self.run.event("warning", text=text)
        done = loaded.step if loaded else 0
        self.run.truncate_after(done)
        return done

    def commit(self, step: int, metrics: Mapping[str, Metric], rollouts: Iterable[Mapping[str, Any]] = ()) -> None:
        """Write what the step leaves, measure and save where due, and stop if asked to."""
        row = values(metrics)
        self._measure(step)
        self.run.commit(step, metrics=row, timing={"seconds": time.monotonic() - self._began}, rollouts=rollouts)
        stopping = self._interrupts.asked and step < self._total
        every = self._checkpoint.every
        if step == self._total or stopping or (every and step % every == 0):
            self._save(step)
        for watcher in self._watchers:
            watcher.update(step, {**row, **self._eval_metrics})
        if stopping:
            self.run.event("interrupted", step=step)
            raise Interrupted(
                f"stopped after step {step} of {self._total}, which is saved in {self.run.path}; add --resume to go on"
            )

    def _measure(self, step: int) -> None:
        every = self._evaluation.every
        if self._evaluate is None or not (step == self._total or (every and step % every == 0)):
            return
        self._eval_metrics = self._evaluate(step)
        self.run.append("evals", {"step": step, "name": "held-out", **self._eval_metrics})

    def _save(self, step: int) -> None:
        best = self._checkpoint.best
        keep = Keep(
            last=self._checkpoint.keep,
            best=best.lstrip("-") if best else None,
            mode="min" if best and best.startswith("-") else "max",
        )
        self.run.sync()
        save(
            self.run.checkpoints,
            step,
            state_of(self._parts),
            identity=self._identity,
            metrics=self._eval_metrics,
            keep=keep,
        )
