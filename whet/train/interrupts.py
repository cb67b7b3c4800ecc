"""Ctrl-C once stops with everything saved; twice leaves at once. SIGTERM counts as the first."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Final, Self

AT_ONCE: Final = 131
"""Exit code of the second Ctrl-C."""
_SHOW_CURSOR: Final = b"\x1b[?25h"


class Interrupts:
    """While entered, the first Ctrl-C or SIGTERM asks to stop and a second Ctrl-C ends the process with 131.

    Between `hold` and `release` (a loop's steps) asking only sets `asked`: the step under way is finished and saved.
    Elsewhere (loading, a stage that is a function) there is no step to finish: `KeyboardInterrupt`, on the spot.

    Off the main thread Python delivers no signals, so there nothing is installed and `asked` stays false.
    """

    def __init__(self) -> None:
        self.asked = False
        self._held = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def hold(self) -> None:
        """From here on a step may be under way."""
        self._held = True

    def release(self) -> None:
        """No step is under way any more."""
        self._held = False

    def _heard(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = self.asked, True
        if again and number == signal.SIGINT:
            if os.isatty(2):
                os.write(2, _SHOW_CURSOR)  # the live display hid it, and nobody else will bring it back
            os._exit(AT_ONCE)
        if not self._held:
            raise KeyboardInterrupt
        if not again:  # os.write, because print fails where the signal arrives inside another print
            os.write(2, b"\nstopping after this step, which will be saved; Ctrl-C again leaves at once\n")
