"""Foreign code under a deadline: a call that hangs ends in an error, not in a run that stands still.

A call runs in a daemon thread of its own and is abandoned when its time is over; the error is meant to end the run.
Code that never lets the interpreter go (a regular expression that backtracks without end) cannot be left this way, and
nothing else runs meanwhile, not even Ctrl-C: some seconds later the process ends itself with a traceback of that code,
as if killed, which no saved step suffers from.
"""

from __future__ import annotations

import asyncio
import faulthandler
import inspect
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

GRACE = 10.0
"""Seconds behind a deadline after which a process that cannot run its own code ends."""


class Overdue(Exception):
    """The deadline passed; distinct from any `TimeoutError` of the code that was called."""


class Caller:
    """Calls functions, plain and asynchronous, under a deadline.

    What asynchronous functions return is awaited on one event loop in a thread of its own, started when first needed
    and kept, so that their clients may keep connections between calls.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0
        self._starting = threading.Lock()

    async def call(self, function: Callable[[], Any], *, seconds: float) -> Any:
        """What `function()` returns, or what its awaitable does; `Overdue` after `seconds`, its exception as it is."""
        started = asyncio.get_running_loop().time()
        result = await _within(_in_thread(function, seconds), seconds)
        if inspect.isawaitable(result):
            left = seconds - (asyncio.get_running_loop().time() - started)
            result = await _within(asyncio.run_coroutine_threadsafe(_outcome(result), self._running()), left)
        return result

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._starting:  # calls come from the loop of this step's rewards and from that of early ones
            if self._loop is None or self._process != os.getpid():
                self._loop, self._process = asyncio.new_event_loop(), os.getpid()
                threading.Thread(target=self._loop.run_forever, name="whet-reward-loop", daemon=True).start()
            return self._loop


async def _outcome(awaitable: Any) -> tuple[bool, Any]:
    """(True, result) or (False, exception): a deadline of ours must not look like a `TimeoutError` of theirs."""
    try:
        return True, await awaitable
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # also SystemExit: a reward must not end the process
        return False, error


def _in_thread(function: Callable[[], Any], seconds: float) -> Future[tuple[bool, Any]]:
    done: Future[tuple[bool, Any]] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        stream = sys.__stderr__
        if stream is not None:
            faulthandler.dump_traceback_later(seconds + GRACE, exit=True, file=stream)
        try:
            outcome = (True, function())
        except BaseException as error:  # also SystemExit: a reward must not end the process
            outcome = (False, error)
        finally:
            if stream is not None:
                faulthandler.cancel_dump_traceback_later()
        done.set_result(outcome)

    threading.Thread(target=run, name="whet-reward", daemon=True).start()
    return done


async def _within(done: Future[tuple[bool, Any]], seconds: float) -> Any:
    try:
        # not `wait_for`, which before Python 3.12 loses a cancellation that comes just as what it waits for ends
        async with asyncio.timeout(max(seconds, 0.0)):
            ok, result = await asyncio.wrap_future(done)
    except TimeoutError:
        faulthandler.cancel_dump_traceback_later()  # this process runs its own code, and may need long to save
        raise Overdue from None
    if not ok:
        raise result
    return result
