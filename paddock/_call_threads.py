"""Threads for blocking calls, which may hang.

At most `size` calls run at a time; the others wait for their turn. A thread whose caller has left
(by a deadline or a cancellation) is abandoned: another one takes its turn, and it ends when its
call returns. At most `size` threads are abandoned at a time, so calls that never return cost a
process 2 * `size` threads. They are daemons: none of them holds up the end of the process.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CallThreads"]

T = TypeVar("T")

IDLE_TIMEOUT = 30.0
"""Seconds for which a thread without work is kept: beginning one costs 0.1 ms."""


class CallThreads:
    """Up to `size` threads, each begun when a call finds none idle."""

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._threads = 0
        """Those that are not abandoned."""
        self._idle = 0
        self._running: set[Future[Any]] = set()
        self._abandoned: set[Future[Any]] = set()

    @property
    def is_exhausted(self) -> bool:
        """Whether no more threads can be abandoned: a call may wait for its turn for ever."""
        return len(self._abandoned) >= self._size

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run `work` in a thread, when it is its turn. Release the future by `leave`."""
        if self._process != os.getpid():  # a fork, which has none of the threads
            self._reset()
        future: Future[T] = Future()
        with self._changed:
            self._waiting.append((future, work))
            self._begin_thread()
            self._changed.notify()
        return future

    def leave(self, future: Future[Any]) -> bool:
        """Stop waiting for a call: it does not begin, or its thread is abandoned, or it is done.

        Return whether the call continues.
        """
        if future.cancel():
            return False
        with self._changed:
            if future in self._running and not self.is_exhausted:
                self._abandoned.add(future)
                self._threads -= 1
                self._begin_thread()
            return future in self._running

    def _begin_thread(self) -> None:
        if len(self._waiting) > self._idle and self._threads < self._size:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
            self._threads += 1

    def _work(self) -> None:
        while (call := self._next()) is not None:
            future, work = call
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:
                    future.set_exception(error)
            if self._was_abandoned(future):
                return
            del call, future, work  # an idle thread keeps nothing alive

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        """Wait for a call; None if none came for a while, and this thread has to end."""
        with self._changed:
            self._idle += 1
            found = self._changed.wait_for(lambda: self._waiting, IDLE_TIMEOUT)
            self._idle -= 1
            if not found:
                self._threads -= 1
                return None
            call = self._waiting.popleft()
            self._running.add(call[0])
            return call

    def _was_abandoned(self, future: Future[Any]) -> bool:
        with self._changed:
            self._running.discard(future)
            if future not in self._abandoned:
                return False
            self._abandoned.discard(future)
            return True
