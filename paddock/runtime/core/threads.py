"""Synchronous functions in threads, which hold up neither the event loop nor the exit.

A thread cannot be stopped. So a function whose caller was cancelled is left behind: its thread
continues, but is no longer counted, and ends with the function.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, TypeVar

from paddock._call_threads import CallThreads
from paddock._logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Threads", "run_in_thread"]

R = TypeVar("R")

MAX_THREADS = 1000
"""Functions that run at once, of all sessions; others wait. As many as there are agents in one
process, since most functions wait for something; each thread takes some 25 KiB. As many more may
run that were left behind."""

_log = get_logger(__name__)


class Threads:
    """Runs functions for any number of event loops, at most `most` at once."""

    def __init__(self, *, most: int = MAX_THREADS) -> None:
        self._calls = CallThreads(most, "paddock-tool")

    async def run(self, function: Callable[[], R], *, name: str) -> R:
        """Return what `function` returns in a thread, in a copy of the caller's context.

        When cancelled, a function that has not begun never does, and one that runs is left
        behind; the log calls it `name`. Raises `RuntimeError` if too many were left behind before.
        """
        if self._calls.is_exhausted:
            raise RuntimeError("too many synchronous functions still run that were cancelled")
        context = contextvars.copy_context()
        future = self._calls.submit(lambda: context.run(_called, function))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if self._calls.leave(future):
                _log.warning("%s was cancelled, but cannot be stopped: it still runs", name)
            raise


def _called(function: Callable[[], R]) -> R:
    """Return what `function` returns. Raise `RuntimeError` instead of what would end the event
    loop, such as `SystemExit`, or never reach it: a future takes no `StopIteration`."""
    try:
        return function()
    except StopIteration as error:
        raise RuntimeError(f"StopIteration: {error}") from error
    except Exception:
        raise
    except BaseException as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


run_in_thread = Threads().run
"""Of this process: the bound on threads is for all its sessions."""
