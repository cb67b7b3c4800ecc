"""File operations that survive a crash, and the atomic patterns made of them.

Everything that must not be half-written goes through a `Files` object: an argument, so that a test can end the
process, fill the disk or lose unsynced pages at any single operation. `OsFiles` is the real one.

What a crash may leave behind is always called `.tmp_…` and is swept by the next writer.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, Protocol

from whet.errors import RunError

Buffer = bytes | bytearray | memoryview


class Files(Protocol):
    """The operations a run is written with; each may raise `OSError`."""

    def create(self, path: Path) -> int: ...
    def append(self, path: Path) -> int: ...
    def write(self, descriptor: int, data: Buffer) -> int: ...
    def truncate(self, descriptor: int, size: int) -> None: ...
    def fsync(self, descriptor: int) -> None: ...
    def close(self, descriptor: int) -> None: ...
    def fsync_folder(self, path: Path) -> None: ...
    def rename(self, source: Path, target: Path) -> None: ...
    def unlink(self, path: Path) -> None: ...
    def mkdir(self, path: Path) -> None: ...
    def rmdir(self, path: Path) -> None: ...
    def free_bytes(self, path: Path) -> int: ...


class OsFiles:
    """The operating system's files."""

    __slots__ = ()

    def create(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    def append(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write(self, descriptor: int, data: Buffer) -> int:
        return os.write(descriptor, data)

    def truncate(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)

    def fsync(self, descriptor: int) -> None:
        full = getattr(fcntl, "F_FULLFSYNC", None)  # on macOS fsync alone stops at the drive's cache
        if full is None:
            os.fsync(descriptor)
        else:
            fcntl.fcntl(descriptor, full)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def fsync_folder(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def mkdir(self, path: Path) -> None:
        os.mkdir(path)

    def rmdir(self, path: Path) -> None:
        os.rmdir(path)

    def free_bytes(self, path: Path) -> int:
        return shutil.disk_usage(path).free


OS_FILES: Final[Files] = OsFiles()


@contextlib.contextmanager
def explained(doing: str, *, kind: type[RunError] = RunError) -> Iterator[None]:
    """Turn an `OSError` inside into one sentence for the user: what was being done, why it failed, what to do.

    >>> with explained("write a.json"):
    ...     raise OSError(errno.ENOSPC, "No space left on device")
    Traceback (most recent call last):
    ...
    whet.errors.RunError: could not write a.json: the disk is full; free some space and resume (what is saved is intact)
    """
    try:
        yield
    except OSError as error:
        raise kind(f"could not {doing}: {_cause(error)} (what is saved is intact)") from error


def _cause(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return (
            "the disk is full; free some space and resume"
            if error.errno == errno.ENOSPC
            else "a size limit is reached; raise it and resume"
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "this place may not be written to; choose another folder or change its permissions"
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
        return "the folder is not there (removed, or its drive went away); bring it back or choose another"
    if error.errno == errno.EIO:
        return "the drive reports a failed write; check it before going on"
    return f"{os.strerror(error.errno) if error.errno else error}; repair that and resume"


def write_all(files: Files, descriptor: int, data: Buffer) -> None:
    """Write every byte, however many calls that takes."""
    view = memoryview(data)
    while view.nbytes:
        view = view[files.write(descriptor, view) :]


def write_file(path: Path, chunks: Iterable[Buffer], *, files: Files = OS_FILES) -> tuple[int, str]:
    """Create a file that must not exist, write, fsync; returns its size and sha256."""
    digest, size = hashlib.sha256(), 0
    descriptor = files.create(path)
    try:
        for chunk in chunks:
            digest.update(chunk)
            size += memoryview(chunk).nbytes
            write_all(files, descriptor, chunk)
        files.fsync(descriptor)
    finally:
        files.close(descriptor)
    return size, digest.hexdigest()


def replace_file(path: Path, data: Buffer, *, files: Files = OS_FILES) -> None:
    """Put a small file in place at once: a reader, or a crash, sees the old content or the new, never a part."""
    temporary = path.parent / f".tmp_{path.name}_{os.getpid()}"
    with explained(f"write {path}"):
        try:
            temporary.unlink(missing_ok=True)
            write_file(temporary, [data], files=files)
            files.rename(temporary, path)
            files.fsync_folder(path.parent)
        except OSError:
            with contextlib.suppress(OSError):  # the first error is the one to report; a leftover is swept later
                temporary.unlink(missing_ok=True)
            raise


def make_folders(path: Path, *, files: Files = OS_FILES) -> None:
    """Make a folder and its parents, each entry durable."""
    if path.is_dir():
        return
    make_folders(path.parent, files=files)
    with contextlib.suppress(FileExistsError):  # another process may make the same parent at this moment
        files.mkdir(path)
    files.fsync_folder(path.parent)


def probe(folder: Path, *, files: Files = OS_FILES) -> None:
    """Find out now, not at the first checkpoint, whether a folder can be written to: write, fsync, rename, remove."""
    first, second = (folder / f".tmp_probe_{name}_{os.getpid()}" for name in "ab")
    with explained(f"write to the folder {folder}"):
        for leftover in (first, second):
            leftover.unlink(missing_ok=True)
        write_file(first, [b"probe\n"], files=files)
        files.rename(first, second)
        files.fsync_folder(folder)
        files.unlink(second)


def remove_folder(folder: Path, *, files: Files = OS_FILES) -> None:
    """Remove a folder and what is in it; links are removed, never followed."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            remove_folder(path, files=files)
        else:
            files.unlink(path)
    files.rmdir(folder)


def sweep(folder: Path, *, files: Files = OS_FILES) -> list[str]:
    """Remove what a killed writer left in a folder and return the names; only the holder of the run's lock may."""
    if not folder.is_dir():
        return []
    leftovers = sorted(path for path in folder.iterdir() if path.name.startswith(".tmp_"))
    with explained(f"sweep leftovers from {folder}"):
        for path in leftovers:
            if path.is_dir() and not path.is_symlink():
                remove_folder(path, files=files)
            else:
                files.unlink(path)
    return [path.name for path in leftovers]


def write_folder_atomically(
    path: Path, writer: Callable[[Path], object], *, replace: bool = False, files: Files = OS_FILES
) -> None:
    """Let `writer` fill a temporary folder, make it durable, rename it to `path`: it is there whole or not at all.

    An existing folder is refused, unless `replace`: then it is renamed to `.old_<name>` for the instant of the
    exchange and removed afterwards; `recover_folder` undoes an exchange that was cut short.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     write_folder_atomically(Path(place) / "final", lambda folder: (folder / "a.txt").write_text("whole"))
    ...     (Path(place) / "final" / "a.txt").read_text()
    'whole'
    """
    temporary = path.parent / f".tmp_{path.name}_{os.getpid()}"
    recover_folder(path, files=files)
    if path.exists() and not replace:
        raise RunError(f"{path} is already there; remove it or choose another folder")
    with explained(f"write the folder {path}"):
        try:
            if temporary.exists():
                remove_folder(temporary, files=files)
            make_folders(temporary, files=files)
            writer(temporary)
            _sync_tree(temporary, files)
            _exchange(temporary, path, files)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            with contextlib.suppress(
                OSError, RunError
            ):  # the first error is the one to report; the next write recovers as well
                recover_folder(path, files=files)
            raise


def recover_folder(path: Path, *, files: Files = OS_FILES) -> None:
    """Finish or undo an exchange that a crash cut short: the old folder comes back if there is no new one."""
    old = path.parent / f".old_{path.name}"
    if not old.exists():
        return
    with explained(f"put {path} back"):
        if path.exists():
            remove_folder(old, files=files)
        else:
            files.rename(old, path)
        files.fsync_folder(path.parent)


def _exchange(temporary: Path, path: Path, files: Files) -> None:
    old = path.parent / f".old_{path.name}"
    if path.exists():
        files.rename(path, old)
    files.rename(temporary, path)
    files.fsync_folder(path.parent)
    if old.exists():
        remove_folder(old, files=files)


def _sync_tree(folder: Path, files: Files) -> None:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            _sync_tree(path, files)
        elif not path.is_symlink():
            descriptor = files.append(path)
            try:
                files.fsync(descriptor)
            finally:
                files.close(descriptor)
    files.fsync_folder(folder)
