"""Ctrl-C once finishes the step and saves; twice leaves at once. SIGTERM counts as the first."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupts:
    """While entered, signals set `asked` instead of raising; a second Ctrl-C exits with 131 immediately.

    Off the main thread Python delivers no signals, so there nothing is installed and `asked` stays false.
    """

    def __init__(self) -> None:
        self.asked = False
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

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            os._exit(131)
        self.asked = True
        print("\nstopping after this step, which will be saved; Ctrl-C again leaves at once", file=sys.stderr, flush=True)
