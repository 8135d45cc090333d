"""Blocking work for a tool: in a thread of its own, with a deadline, and stopped on cancellation.

A thread cannot be killed, so the caller also says how the work is stopped. Knows
nothing of what the work is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from paddock._concurrency import finish
from paddock._logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Stop", "child_environment", "run_in_thread"]

T = TypeVar("T")

ASKED_AGAIN: Final = 0.25
"""Seconds until work is asked again: a request can come just before what it should stop."""

ASKS: Final = 8
FORCED: Final = 1.0
"""Seconds for work to end that was forced to. After that its thread is left to itself."""

_log = get_logger(__name__)


def child_environment() -> dict[str, str]:
    """Return the variables for a Python of our own: what some builds need to start, no more."""
    needed = "LD_LIBRARY_PATH"
    return {needed: os.environ[needed]} if needed in os.environ else {}


class Stop(Protocol):
    """How work is stopped. Both are called from other threads than the work's own."""

    def ask(self) -> None:
        """Have it end soon. May be called several times, also before or after the work."""
        ...

    def force(self) -> None:
        """It did not end: take away what it waits for."""
        ...


async def run_in_thread(work: Callable[[], T], *, stop: Stop, limit: float) -> T:
    """The result of `work`, or `TimeoutError` after `limit` seconds.

    When the time is over or the caller is cancelled, the work is asked to end, then
    forced, and waited for: a few seconds at most. Work that ended well all the same
    gives its result, though late. The thread is a daemon: it holds up no exit.
    """
    future = _start(work)
    try:
        await asyncio.wait([future], timeout=limit)
    except asyncio.CancelledError:
        await finish(_stop(future, stop))
        raise
    if future.done():
        return future.result()
    await finish(_stop(future, stop))
    if not future.done():
        raise TimeoutError
    if (failure := future.exception()) is not None:
        raise TimeoutError from failure
    return future.result()


async def _stop(future: asyncio.Future[Any], stop: Stop) -> None:
    asked: asyncio.Future[None] | None = None
    for _ in range(ASKS):
        if asked is None or asked.done():
            asked = _start(stop.ask)
        await asyncio.wait([future], timeout=ASKED_AGAIN)
        if future.done():
            break
    else:
        _start(stop.force)
        await asyncio.wait([future], timeout=FORCED)
    if asked is not None:
        await asyncio.wait([asked], timeout=FORCED)


def _start(work: Callable[[], T]) -> asyncio.Future[T]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    future.add_done_callback(_look_at)

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            tell(future.set_exception, error)
        else:
            tell(future.set_result, result)

    def tell(setter: Callable[[Any], None], value: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed: no task waits
            loop.call_soon_threadsafe(setter, value)

    threading.Thread(target=run, name="paddock-tool", daemon=True).start()
    return future


def _look_at(future: asyncio.Future[Any]) -> None:
    """Log an error that no caller waits for."""
    if not future.cancelled() and (error := future.exception()) is not None:
        _log.debug("work in a thread failed", exc_info=error)
