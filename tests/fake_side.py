"""A side of a comparison without any library: notes its turn, holds some memory, and takes the time it is told.

Its setting has the letter it notes and its milliseconds; the workload's `kl` above 1 makes side a fail.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

HELD = 24 << 20


def libraries() -> None:
    """Nothing to import."""


def work(workload: Any, folder: Path, clock: Any, setting: Any) -> None:
    name, milliseconds = setting["name"], setting["milliseconds"]
    clock.ready({"milliseconds": milliseconds})
    while True:
        clock.start()
        with (folder / "turns").open("a") as turns:
            turns.write(name)
        if name == "a":
            held = b"x" * HELD
            del held
            if workload.kl == 2.0:
                raise RuntimeError("boom\nand more")
            if workload.kl == 3.0:
                os._exit(3)
        time.sleep(milliseconds / 1000)
        print("what a library prints is no answer")
        clock.stop()
        clock.tell(tokens=3.0)
