"""One writer per folder: an exclusive lock that the kernel gives back when its holder ends, however it ends."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import time
from pathlib import Path

from whet.errors import RunError
from whet.files import explained
from whet.plain import to_json


def take_lock(path: Path) -> int:
    """Lock a folder through its `.lock` and return the open descriptor; closing it gives the lock back.

    A held lock is refused at once, naming its owner. A forked child shares the descriptor, so the lock lasts until it
    ends too.
    """
    with explained(f"open the lock of {path}"):
        descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 4096)
            os.close(descriptor)
            raise RunError(_in_use(path, owner)) from None
        except BaseException:
            os.close(descriptor)
            raise
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime())
        owner = to_json({"pid": os.getpid(), "host": socket.gethostname(), "started": started}).encode()
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, owner, 0)
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


def _in_use(path: Path, owner: bytes) -> str:
    try:
        known = json.loads(owner)
        who = f"process {known['pid']} on {known['host']} since {known['started']}"
    except (ValueError, TypeError, KeyError):  # the owner has the lock but has not yet written who it is
        return f"{path} is in use by another process; wait for it or choose another folder"
    gone = (
        known["host"] == socket.gethostname() and sys.platform == "linux" and not Path(f"/proc/{known['pid']}").exists()
    )
    if gone:
        return (
            f"{path} is in use by {who}; that process is gone but one it started still holds the folder: end that one"
        )
    return f"{path} is in use by {who}; wait for it, end it, or choose another folder"
