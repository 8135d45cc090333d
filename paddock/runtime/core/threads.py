"""Synchronous functions in threads, which hold up neither the event loop nor the exit.

A thread cannot be stopped. So a function whose caller was cancelled is left behind: its thread
goes on, but it does not count any more, and ends with the function. The threads are daemons.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from paddock._logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Threads", "run_in_thread"]

R = TypeVar("R")

MAX_THREADS = 1000
"""Functions that run at once, of all sessions; others wait. As many as there are agents in one
process, since most functions wait for something; each thread takes some 25 KiB."""

MAX_LEFT = 1000
"""Functions that were left behind and still run. With so many, something is wrong for good."""

IDLE_TIMEOUT = 10.0
"""Seconds that a thread waits for the next function: longer than between two calls of a model."""

_log = get_logger(__name__)


@dataclass(eq=False)
class _Job:
    """One call, and who waits for it."""

    name: str
    call: Callable[[], Any]
    future: Future[Any] = field(default_factory=Future)
    left: bool = False

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.call()
        except Exception as error:
            self.future.set_exception(_harmless(error))
        except BaseException as error:  # of `sys.exit()`: it would end the event loop
            self.future.set_exception(_wrapped(error))
        else:
            self.future.set_result(result)


class Threads:
    """Runs functions for any number of event loops, at most `most` at once."""

    def __init__(self, *, most: int = MAX_THREADS, most_left: int = MAX_LEFT) -> None:
        self._most = most
        self._most_left = most_left
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._threads = 0
        self._idle = 0
        self._left = 0

    async def run(self, function: Callable[[], R], *, name: str) -> R:
        """Return what `function` returns in a thread, in a copy of the caller's context.

        When cancelled, a function that has not begun never does, and one that runs is left
        behind; the log calls it `name`. Raises `RuntimeError` if too many were left behind before.
        """
        job = _Job(name, functools.partial(contextvars.copy_context().run, function))
        self._submit(job)
        try:
            result: R = await asyncio.wrap_future(job.future)
        except asyncio.CancelledError:
            self._leave(job)
            raise
        return result

    def _submit(self, job: _Job) -> None:
        with self._changed:
            if self._left >= self._most_left:
                raise RuntimeError(
                    f"{self._left} synchronous functions still run although they were cancelled"
                )
            if len(self._waiting) >= self._idle and self._threads < self._most:
                threading.Thread(target=self._work, name="paddock-tool", daemon=True).start()
                self._threads += 1
            self._waiting.append(job)
            self._changed.notify()

    def _leave(self, job: _Job) -> None:
        with self._changed:
            if job.future.done():
                return
            job.left = True
            self._left += 1
            self._threads -= 1
            if self._waiting:  # its place is free for another thread
                threading.Thread(target=self._work, name="paddock-tool", daemon=True).start()
                self._threads += 1
        _log.warning("%s was cancelled, but cannot be stopped: it still runs in a thread", job.name)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            job.run()
            with self._changed:
                if job.left:
                    self._left -= 1
                    return

    def _next(self) -> _Job | None:
        """Return the next job; None when there was none for a while."""
        with self._changed:
            self._idle += 1
            found = self._changed.wait_for(lambda: self._waiting, IDLE_TIMEOUT)
            self._idle -= 1
            if found:
                return self._waiting.popleft()
            self._threads -= 1
            return None


def _harmless(error: Exception) -> Exception:
    """A future takes no `StopIteration`: whoever awaits it would wait forever."""
    return _wrapped(error) if isinstance(error, StopIteration) else error


def _wrapped(error: BaseException) -> RuntimeError:
    wrapped = RuntimeError(f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


run_in_thread = Threads().run
"""Of this process: the bound on threads is for all its sessions."""
