"""A side of a comparison without any library: notes its turn, holds some memory, and takes the time it is told.

Its workload's `budget` is its milliseconds as Whet and its `slots` those as TRL; `kl` above 1 makes Whet fail.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

HELD = 24 << 20


def libraries() -> None:
    """Nothing to import."""


def serve(workload: Any, folder: Path, clock: Any, *, name: str, milliseconds: int) -> None:
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
        clock.stop(tokens=3.0)


def work(workload: Any, folder: Path, clock: Any) -> None:
    serve(workload, folder, clock, name="a", milliseconds=workload.budget)
