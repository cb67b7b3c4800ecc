"""A run is one folder, and this module is its only writer.

    config.yaml         the resolved options, each with its origin as a comment; can be run again
    config.json         the same as {"config", "origins", "hash"}; written last, so a folder that has it is a run
    environment.json    versions, processor, threads, platform: what the promise of equal bits is tied to
    metrics.jsonl       one row per step; no clock values, so that equal runs have equal bytes
    timing.jsonl        the clock values
    rollouts.jsonl      what was sampled and how it was scored: ROLLOUT_COLUMNS
    evals.jsonl         one row per evaluation
    events.jsonl        start, resume, interrupts, warnings, rows set aside
    journal.jsonl       scores and judge calls by key, each line with a checksum, durable before use
    checkpoints/ final/ what training writes
    reference/          what a frozen model says of the rows, by content: kept where they are seen several times
    stages/NN-name/     a recipe's stages, each a run of its own, finished when it has done.json

Rows are appended by one write each. A row cut short by a kill has no newline: readers leave it out, and the next
writer sets it aside. Everything a step writes comes before its checkpoint, and `sync()` before that makes it durable;
on resume `truncate_after(step)` sets the rows of later steps aside in `<name>.set_aside-<k>.jsonl`. Nothing is deleted.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from whet.errors import RunError
from whet.files import OS_FILES, Files, explained, make_folders, probe, replace_file, sweep, write_all
from whet.journal import Journal
from whet.lock import take_lock
from whet.plain import differences, json_hash, parse_row, read_lines, to_json, to_yaml
from whet.rows import LOGS, STEPPED, Row, check_row, set_aside_after, set_torn_end_aside
from whet.words import nearest


def describe_environment(*, threads: int) -> dict[str, Any]:
    """What the promise of equal bits is tied to: versions, processor, threads; it imports none of them."""
    packages = ("whet", "torch", "transformers", "tokenizers", "safetensors", "numpy", "peft", "datasets")
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "versions": {name: version for name in packages if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in names if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )


class RunDir:
    """One run's folder: `create` a new one, `open` one to read or to resume; a writer holds its lock until `close`.

    >>> import tempfile
    >>> place = tempfile.TemporaryDirectory()
    >>> with RunDir.create(Path(place.name) / "a", {"steps": 2}, origins={"steps": "default"}, environment={}) as run:
    ...     run.commit(1, metrics={"loss": 0.5}, timing={"seconds": 0.1})
    ...     run.commit(2, metrics={"loss": 0.25}, timing={"seconds": 0.1})
    >>> with RunDir.open(Path(place.name) / "a", mode="resume") as run:
    ...     run.truncate_after(1), list(run.rows("metrics"))
    ({'metrics': 1, 'timing': 1}, [{'loss': 0.5, 'step': 1}])
    >>> place.cleanup()
    """

    def __init__(self, path: Path, *, files: Files, lock: int | None) -> None:
        self.path = path
        self._files = files
        self._lock = lock
        self._open: dict[str, int] = {}
        self._last_step: int | None = None
        self._journal: Journal | None = None
        self.hear: Callable[[str, Row], None] | None = None
        """Told of every event as it is written; stages made from this run tell the same one."""
        self.config: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.environment: dict[str, Any] = {}

    @classmethod
    def create(
        cls, path: Path | str, config: Row, *, origins: Mapping[str, str], environment: Row, files: Files = OS_FILES
    ) -> Self:
        """A new run in a folder that is absent, empty, or holds only what a `create` cut short left there."""
        path = Path(path)
        with explained(f"make the run folder {path}"):
            make_folders(path, files=files)
        run = cls(path, files=files, lock=take_lock(path))
        try:
            _check_free(path)
            sweep(path, files=files)
            probe(path, files=files)
            run.config, run.origins, run.environment = dict(config), dict(origins), dict(environment)
            run._write_description()
            run.event("start", config=json_hash(config))
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def open(cls, path: Path | str, *, mode: Literal["read", "resume"] = "read", files: Files = OS_FILES) -> Self:
        """An existing run: `read` takes no lock and writes nothing, `resume` locks, sweeps and mends."""
        path = Path(path)
        if not (path / "config.json").is_file():
            raise RunError(
                f"{path} is not a run folder (it has no config.json); give the folder that a run wrote, or start a run "
                "there"
            )
        run = cls(path, files=files, lock=take_lock(path) if mode == "resume" else None)
        try:
            described = _read_json(path / "config.json")
            run.config, run.origins = described["config"], described["origins"]
            run.environment = _read_json(path / "environment.json")
            if mode == "resume":
                run._mend()
        except BaseException:
            run.close()
            raise
        return run

    def _write_description(self) -> None:
        described = {"config": self.config, "origins": self.origins, "hash": json_hash(self.config)}
        for name, text in (
            ("config.yaml", to_yaml(self.config, self.origins)),
            ("environment.json", to_json(self.environment) + "\n"),
            ("config.json", to_json(described) + "\n"),
        ):
            replace_file(self.path / name, text.encode(), files=self._files)

    def _mend(self) -> None:
        probe(self.path, files=self._files)
        swept = [name for folder in (self.path, self.checkpoints) for name in sweep(folder, files=self._files)]
        torn = {
            name: size
            for name in (*LOGS, "journal")
            if (size := set_torn_end_aside(self.path / f"{name}.jsonl", files=self._files))
        }
        self.event("resume", last_step=self.last_step, swept=swept, torn_bytes=torn)

    def close(self) -> None:
        """Make every row durable and give the lock back."""
        try:
            if self._open:
                self.sync()
        finally:
            for descriptor in self._open.values():
                os.close(descriptor)
            self._open.clear()
            if self._journal is not None:
                self._journal.close()
                self._journal = None
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def files(self) -> Files:
        """The file operations that this run is written with."""
        return self._files

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def final(self) -> Path:
        return self.path / "final"

    @property
    def journal(self) -> Journal:
        """Scores and judge calls by key; a reader's journal refuses to be written."""
        if self._journal is None:
            self._journal = Journal(self.path / "journal.jsonl", writable=self._lock is not None, files=self._files)
        return self._journal

    # ------------------------------------------------------------------------------------------------------------- rows

    def append(self, name: str, row: Row) -> None:
        """Add one row to a log."""
        self.extend(name, [row])

    def extend(self, name: str, rows: Iterable[Row]) -> None:
        """Add rows to a log in one write each; they survive a kill at once, and a power cut after `sync`."""
        for row in rows:
            check_row(name, row)
            self._write_line(name, (to_json(row) + "\n").encode("ascii"))

    def commit(self, step: int, *, metrics: Row, timing: Row, rollouts: Iterable[Row] = ()) -> None:
        """Write what one step leaves; the metrics row comes last, so a step that has one is whole. Steps only go up."""
        if self.last_step is not None and step <= self.last_step:
            raise RunError(
                f"step {step} comes after step {self.last_step} in {self.path}; set later rows aside first "
                "(truncate_after)"
            )
        self.extend("rollouts", rollouts)
        self.append("timing", {**timing, "step": step})
        self.append("metrics", {**metrics, "step": step})
        self._last_step = step

    def event(self, kind: str, **details: Any) -> None:
        """Note something that happened to the run, with the clock."""
        self.append("events", {"event": kind, "at": time.time(), "pid": os.getpid(), **details})
        if self.hear is not None:
            self.hear(kind, details)

    def sync(self) -> None:
        """Make every row durable; call it before a checkpoint is saved."""
        with explained(f"make the rows of {self.path} durable"):
            for descriptor in self._open.values():
                self._files.fsync(descriptor)
            if self._open:
                self._files.fsync_folder(self.path)

    def rows(self, name: str) -> Iterator[dict[str, Any]]:
        """The rows of a log in order; a torn last line is left out, any other unreadable line is an error naming it."""
        path = self._log_path(name)
        if not path.exists():
            return
        for number, _, line in read_lines(path):
            row = parse_row(line)
            if row is None:
                raise RunError(
                    f"{path}, line {number} is not a row: the file was damaged after it was written; restore it or "
                    "remove that line"
                )
            yield row

    @property
    def last_step(self) -> int | None:
        """The last step with a metrics row, or None."""
        if self._last_step is None:
            self._last_step = max((row["step"] for row in self.rows("metrics")), default=None)
        return self._last_step

    def _log_path(self, name: str) -> Path:
        if name not in LOGS:
            raise RunError(
                f"there is no log {name!r}{nearest(name, LOGS)}; a run has {', '.join(LOGS)} and the journal"
            )
        return self.path / f"{name}.jsonl"

    def _write_line(self, name: str, line: bytes) -> None:
        path = self._log_path(name)
        if self._lock is None:
            raise RunError(f"{self.path} was opened to read; open it with mode='resume' to write")
        with explained(f"append to {path}"):
            descriptor = self._descriptor(name, path)
            if os.fstat(descriptor).st_nlink == 0:
                raise FileNotFoundError(2, "removed while the run was writing")
            try:
                write_all(self._files, descriptor, line)
            except OSError:  # a part may be in the file: reopening sets it aside, so that no later row is glued to it
                self._files.close(self._open.pop(name))
                raise

    def _descriptor(self, name: str, path: Path) -> int:
        if name not in self._open:
            set_torn_end_aside(self.path / f"{name}.jsonl", files=self._files)
            self._open[name] = self._files.append(path)
        return self._open[name]

    # -------------------------------------------------------------------------------------------- setting rows aside

    def truncate_after(self, step: int) -> dict[str, int]:
        """Set the rows of steps after `step` aside, deleting none; returns, and notes, how many lines of each log.

        The rows kept stay the bytes they were. Unreadable lines are tolerated only where every later row is set aside
        too.
        """
        moved = {
            name: count for name in STEPPED if (count := set_aside_after(self._log_path(name), step, files=self._files))
        }
        self._last_step = None
        if moved:
            self.event("set_aside", after_step=step, lines=moved)
        return moved

    # ------------------------------------------------------------------------------------------------ resuming, stages

    def check_config(self, config: Row) -> None:
        """Refuse to go on with other options than the run was started with, naming each."""
        changed = differences(self.config, config)
        if changed:
            raise RunError(
                f"{self.path} was started with other options: {'; '.join(changed)}; resume with the same ones or start "
                "a new run"
            )

    def check_environment(self, environment: Row) -> list[str]:
        """What differs from the environment the run began in; noted as a warning: equal bits are then not promised."""
        changed = differences(self.environment, environment)
        if changed:
            self.event(
                "warning",
                text="the environment changed, so the bits may differ from an undisturbed run",
                changed=changed,
            )
        return changed

    def stage(self, number: int, name: str, config: Row, *, origins: Mapping[str, str]) -> RunDir:
        """The run folder of a recipe's stage: created, or resumed if it is there with the same config."""
        path = self.path / "stages" / f"{number:02d}-{name}"
        if not (path / "config.json").is_file():
            stage = RunDir.create(path, config, origins=origins, environment=self.environment, files=self._files)
            stage.hear = self.hear
            return stage
        stage = RunDir.open(path, mode="resume", files=self._files)
        stage.hear = self.hear
        try:
            stage.check_config(config)
        except RunError:
            stage.close()
            raise
        return stage

    def mark_done(self, results: Row) -> None:
        """Say, atomically, that the run or stage is finished and what it made (paths within its folder, numbers)."""
        self.sync()
        done = {"config_hash": json_hash(self.config), "results": dict(results)}
        replace_file(self.path / "done.json", (to_json(done) + "\n").encode(), files=self._files)

    @property
    def done(self) -> dict[str, Any] | None:
        """What a finished run or stage made, or None; a marker of another config is an error."""
        marker = self.path / "done.json"
        if not marker.exists():
            return None
        done = _read_json(marker)
        if done["config_hash"] != json_hash(self.config):
            raise RunError(
                f"{marker} was written under another config than {self.path / 'config.json'}; remove the folder and "
                "run the stage again"
            )
        return done["results"]


def _read_json(path: Path) -> dict[str, Any]:
    with explained(f"read {path}"):
        value = parse_row(path.read_bytes())
    if value is None:
        raise RunError(
            f"{path} is not readable as JSON: the file was damaged; restore it from a copy or start a new run"
        )
    return value


def _check_free(path: Path) -> None:
    """A new run may take an empty folder, or one where an earlier `create` was cut short before its config.json."""
    ours = {".lock", "config.yaml", "environment.json"}
    there = sorted(
        entry.name for entry in path.iterdir() if entry.name not in ours and not entry.name.startswith(".tmp_")
    )
    if "config.json" in there:
        raise RunError(f"{path} already holds a run; resume it, or choose another folder")
    if there:
        raise RunError(f"{path} is not empty (it has {there[0]!r}); choose another folder for the run")
