"""Many small runs side by side, each in a process of one thread; what is done is kept, so the rest can be done later.
One worker is this very process.

A trial is a function of (folder, **arguments) → numbers, named by its import path. FOLDER/NAME.json has its numbers,
whole or not at all; a trial whose file is there is not run again. A run that diverges is a finding, not a fault: it has
the sentence under `failed`.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whet.errors import NumericsError
from whet.files import make_folders, replace_file

Numbers = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run: `function` is `package.module:name`, `name` that of its files."""

    name: str
    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def key(self) -> str:
        """What the numbers follow from: a trial with other arguments is another trial."""
        words = json.dumps([self.function, self.arguments], sort_keys=True)
        return hashlib.sha256(words.encode()).hexdigest()


def run_trials(
    folder: Path, trials: Sequence[Trial], *, workers: int, done: Callable[[Trial, Numbers], None]
) -> dict[str, Numbers]:
    """The numbers of every trial by its name; `done` is told of each as it ends, those that were there first."""
    make_folders(folder)
    found = {trial.name: kept for trial in trials if (kept := _kept(folder, trial)) is not None}
    for trial in trials:
        if trial.name in found:
            done(trial, found[trial.name])
    left = [trial for trial in trials if trial.name not in found]
    if left:
        for trial, numbers in _side_by_side(folder, left, min(workers, len(left))):
            found[trial.name] = numbers
            done(trial, numbers)
    return {trial.name: found[trial.name] for trial in trials}


def _side_by_side(folder: Path, trials: Sequence[Trial], workers: int) -> Iterator[tuple[Trial, Numbers]]:
    """(trial, numbers) as each ends; the first error stops the others before they begin."""
    if workers == 1:
        yield from ((trial, work(folder, trial)) for trial in trials)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
        waiting = {pool.submit(work, folder, trial): trial for trial in trials}
        try:
            while waiting:
                ended, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield waiting.pop(future), future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def work(folder: Path, trial: Trial) -> Numbers:
    """Run one trial in a folder of its own, which goes when its numbers are kept."""
    module, _, name = trial.function.partition(":")
    place = folder / trial.name
    shutil.rmtree(place, ignore_errors=True)  # what a killed process left of it
    try:
        numbers = getattr(importlib.import_module(module), name)(place, **trial.arguments)
    except NumericsError as error:
        numbers = {"failed": str(error)}
    kept = json.dumps({"key": trial.key, "numbers": numbers}, indent=1)
    replace_file(folder / f"{trial.name}.json", kept.encode())
    shutil.rmtree(place, ignore_errors=True)
    return numbers


def _kept(folder: Path, trial: Trial) -> Numbers | None:
    """What an earlier process wrote of just this trial."""
    path = folder / f"{trial.name}.json"
    if not path.exists():
        return None
    kept = json.loads(path.read_text())
    return kept["numbers"] if kept["key"] == trial.key else None


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
