"""Scoring that begins while the rest of a step is still being sampled.

Only what judges a group by itself and waits for something (an asynchronous function of one answer or of one group) can
begin early. Which scores come out does not depend on it: they are collected by group, in the order of the step.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

from whet.types import Group, Reward

T = TypeVar("T")
Submit = Callable[[Coroutine[Any, Any, Any]], "Future[Any]"]
Begin = Callable[[Group], None]


@runtime_checkable
class Early(Protocol):
    """A reward of which some part may begin early."""

    def early(self, submit: Submit) -> tuple[Begin, Reward] | None:
        """(what to tell of each complete group, the reward that takes up what was begun), or None where nothing can.

        The reward must be called with the very groups that were begun, and may be called with others too.
        """
        ...


class Beside:
    """An event loop in a thread of its own, there from the first coroutine on and gone when the block is left.

    >>> async def double(x: int) -> int:
    ...     return 2 * x
    >>> with Beside() as beside:
    ...     beside.submit(double(3)).result()
    6
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over = asyncio.Event()
        self._thread: threading.Thread | None = None

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin a coroutine; it is cancelled where it has not ended when the block is left."""
        if self._loop is None:
            there = threading.Event()
            self._thread = threading.Thread(
                target=lambda: asyncio.run(self._run(there)), name="whet-early", daemon=True
            )
            self._thread.start()
            there.wait()
        assert self._loop is not None, "the loop runs"
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _run(self, there: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        there.set()
        await self._over.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join()
