"""Crashes on demand: file layers that kill, fail or record, every disk a power cut could leave, and forked campaigns.

Run as a program (`python tests/crashes.py FOLDER checkpoint`) it is the process that campaigns fork from: it has
imported what the children need and has run nothing parallel, so a child is what a fresh process could be.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from whet.files import OS_FILES

Act = Callable[[int, str, tuple[Any, ...]], None]


class ActingFiles:
    """The real files, with `act(count, operation, arguments)` called before each operation."""

    def __init__(self, act: Act) -> None:
        self.act = act
        self.count = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation = getattr(OS_FILES, name)

        def call(*arguments: Any) -> Any:
            self.count += 1
            self.act(self.count, name, arguments)
            return operation(*arguments)

        return call


def killing_at(n: int) -> ActingFiles:
    """SIGKILL at the n-th operation; a write is cut in half first."""

    def act(count: int, name: str, arguments: tuple[Any, ...]) -> None:
        if count == n:
            if name == "write":
                OS_FILES.write(arguments[0], arguments[1][: len(arguments[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

    return ActingFiles(act)


def failing_at(n: int, code: int, *, only: str | None = None) -> ActingFiles:
    """The n-th operation (of one kind, if `only`) fails with an errno; a write is cut in half first."""
    seen = [0]

    def act(count: int, name: str, arguments: tuple[Any, ...]) -> None:
        seen[0] += only is None or name == only
        if seen[0] == n and (only is None or name == only):
            seen[0] += 1
            if name == "write":
                OS_FILES.write(arguments[0], arguments[1][: len(arguments[1]) // 2])
            raise OSError(code, os.strerror(code))

    return ActingFiles(act)


# ----------------------------------------------------------------------------------------------------- power cuts


class Inode:
    """A file or folder: what a running process sees, and what the disk is sure to hold."""

    def __init__(self, *, folder: bool) -> None:
        self.folder = folder
        self.data, self.sure_data = b"", b""
        self.entries: dict[str, Inode] = {}
        self.pending: list[dict[str, Inode]] = [{}]
        """What the entries were since the last fsync, oldest first: a disk that keeps order may hold any of these."""

    def changed(self) -> None:
        self.pending.append(dict(self.entries))


class RecordingFiles:
    """A disk in memory beside the real one: after every operation, `states` are trees that a power cut could leave.

    With `lazy`, fsync and fsync_folder do nothing, as a saver without them would: the control that must lose data.
    """

    def __init__(self, root: Path, *, lazy: bool = False, seed: int = 0) -> None:
        self.root, self.lazy = root, lazy
        self.random = random.Random(seed)
        self.top = self._read(root)
        self.open: dict[int, Inode] = {}
        self.states: dict[str, tuple[int, dict[str, Any]]] = {}
        self.count = 0

    def _read(self, path: Path) -> Inode:
        node = Inode(folder=path.is_dir())
        if node.folder:
            node.entries = {child.name: self._read(child) for child in path.iterdir()}
            node.pending = [dict(node.entries)]
        else:
            node.data = node.sure_data = path.read_bytes()
        return node

    def _find(self, path: Path) -> Inode:
        node = self.top
        for part in path.relative_to(self.root).parts:
            node = node.entries[part]
        return node

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation, mirror = getattr(OS_FILES, name), getattr(self, f"_{name}", None)

        def call(*arguments: Any) -> Any:
            result = operation(*arguments)
            if mirror is not None:
                mirror(result, *arguments)
                self.count += 1
                self._keep_states()
            return result

        return call

    def _create(self, descriptor: int, path: Path) -> None:
        parent, node = self._find(path.parent), Inode(folder=False)
        parent.entries[path.name] = self.open[descriptor] = node
        parent.changed()

    def _write(self, written: int, descriptor: int, data: Any) -> None:
        self.open[descriptor].data += bytes(data[:written])

    def _fsync(self, _: None, descriptor: int) -> None:
        if not self.lazy:
            self.open[descriptor].sure_data = self.open[descriptor].data

    def _fsync_folder(self, _: None, path: Path) -> None:
        if not self.lazy:
            node = self._find(path)
            node.pending = [dict(node.entries)]

    def _rename(self, _: None, source: Path, target: Path) -> None:
        assert source.parent == target.parent
        parent = self._find(source.parent)
        parent.entries[target.name] = parent.entries.pop(source.name)
        parent.changed()

    def _mkdir(self, _: None, path: Path) -> None:
        parent = self._find(path.parent)
        parent.entries[path.name] = Inode(folder=True)
        parent.changed()

    def _unlink(self, _: None, path: Path) -> None:
        parent = self._find(path.parent)
        del parent.entries[path.name]
        parent.changed()

    _rmdir = _unlink

    def _keep_states(self) -> None:
        """The least and the most that can be on the disk now, and some in between."""
        chance = self.random
        least = self._tree(self.top, lambda _: 0)
        most = self._tree(self.top, lambda count: count - 1)
        some = [self._tree(self.top, lambda count: chance.randrange(count)) for _ in range(12)]
        for tree in (least, most, *some):
            self.states[repr(tree)] = (self.count, tree)  # the latest count at which this state is possible

    def _tree(self, node: Inode, choose: Callable[[int], int]) -> Any:
        if not node.folder:
            half = node.data[: (len(node.sure_data) + len(node.data)) // 2]
            hole = node.sure_data + bytes(len(node.data) - len(node.sure_data))
            choices = [node.sure_data] if node.sure_data == node.data else [node.sure_data, half, hole, node.data]
            return choices[choose(len(choices))]
        entries = node.pending[choose(len(node.pending))]
        return {name: self._tree(child, choose) for name, child in entries.items()}


def put_on_disk(tree: dict[str, Any], place: Path) -> None:
    """Make a recorded state a real folder."""
    place.mkdir()
    for name, value in tree.items():
        if isinstance(value, dict):
            put_on_disk(value, place / name)
        else:
            (place / name).write_bytes(value)


# --------------------------------------------------------------------------------------------------- forked campaigns


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked child; 0 when it came to its end, -9 when it was killed."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def checkpoint_campaign(root: Path) -> Iterator[dict[str, Any]]:
    """Kill one save (and the removal of the older one) at every file operation; say what then loads."""
    import torch
    from states import IDENTITY, same, state_at

    from whet.files import sweep
    from whet.train.checkpoint import Keep, load_latest, save

    torch.set_num_threads(1)
    for n in range(1, 1000):
        folder = root / str(n)
        save(folder, 1, state_at(1), identity=IDENTITY)
        code = in_child(
            lambda: save(folder, 2, state_at(2), identity=IDENTITY, keep=Keep(last=1), files=killing_at(n))  # noqa: B023
        )
        before = sorted(path.name for path in folder.iterdir())
        swept = sweep(folder)
        loaded = load_latest(folder, identity=IDENTITY)
        good = loaded is not None and same(loaded.state, state_at(loaded.step)) and not loaded.rejected
        save(folder, 3, state_at(3), identity=IDENTITY, keep=Keep(last=1))
        after = sorted(path.name for path in folder.iterdir())
        step = loaded.step if loaded else None
        yield {"n": n, "code": code, "step": step, "good": good, "before": before, "swept": swept, "after": after}
        if code != -signal.SIGKILL:
            return


def limited_campaign(root: Path) -> Iterator[dict[str, Any]]:
    """A save under a real limit of file size: the operating system's own failed write."""
    import resource

    import torch
    from states import IDENTITY, state_at

    from whet.errors import CheckpointError
    from whet.train.checkpoint import load_latest, save

    save(root, 1, state_at(1), identity=IDENTITY)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            save(root, 2, {"policy": {"weight": torch.zeros(4096)}}, identity=IDENTITY)
        except CheckpointError as error:
            assert "size limit" in str(error)
            os._exit(6)

    code = in_child(limited)
    loaded = load_latest(root)
    yield {"code": code, "step": loaded and loaded.step, "left": sorted(path.name for path in root.iterdir())}


def rundir_campaign(root: Path) -> Iterator[dict[str, Any]]:
    """Kill a resumed writer (sweep, rows set aside, rows, journal) at every operation; say what a reader then finds."""
    from whet.rundir import RunDir

    def resumed(path: Path, n: int) -> None:
        run = RunDir.open(path, mode="resume", files=killing_at(n))
        run.truncate_after(3)
        run.journal.put(("score", 9), 9)
        for step in (4, 5, 6):
            run.commit(step, metrics={"loss": 1 / step}, timing={"seconds": 0.0})
        run.sync()
        run.mark_done({"final": "final"})

    for n in range(1, 1000):
        path = root / str(n)
        with RunDir.create(path, {"seed": 1}, origins={}, environment={}) as run:
            run.journal.put(("score", 1), 1)
            for step in range(1, 6):
                run.commit(step, metrics={"loss": 1 / step}, timing={"seconds": 0.0})
        with (path / "metrics.jsonl").open("ab") as stream:
            stream.write(b'{"loss": 0.1, "st')
        code = in_child(lambda: resumed(path, n))  # noqa: B023
        with RunDir.open(path, mode="resume") as run:
            run.truncate_after(3)
            steps = [row["step"] for row in run.rows("metrics")]
            aside = b"".join(file.read_bytes() for file in sorted(path.glob("metrics.set_aside-*.jsonl")))
            whole = all(json.dumps({"loss": 1 / step, "step": step}).encode() in aside for step in (4, 5))
            left = [file.name for file in path.iterdir() if file.name.startswith(".tmp_")]
            yield {
                "n": n,
                "code": code,
                "steps": steps,
                "kept": whole and b'{"loss": 0.1, "st' in aside,
                "journal": run.journal.get(("score", 1)),
                "left": left,
            }
        if code != -signal.SIGKILL:
            return


def run_campaigns(folder: Path, *names: str) -> dict[str, list[dict[str, Any]]]:
    """The outcomes of campaigns, run in a process of their own to fork from."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__, str(folder), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 0, done.stderr
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: [outcome for outcome in outcomes if outcome["campaign"] == name] for name in names}


@contextlib.contextmanager
def swift_folder() -> Iterator[Path]:
    """A folder in memory where there is one: its fsync costs nothing, and a kill is the same there."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as place:
        yield Path(place)


if __name__ == "__main__":
    campaigns = {"checkpoint": checkpoint_campaign, "limited": limited_campaign, "rundir": rundir_campaign}
    for name in sys.argv[2:]:
        for outcome in campaigns[name](Path(sys.argv[1]) / name):
            print(json.dumps({"campaign": name, **outcome}), flush=True)
