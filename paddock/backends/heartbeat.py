"""Heartbeats that do not depend on any event loop: one thread of the library's own sends them.

A lease is renewed also while a user's code blocks the loop, as an `input()` does. What a
beat is, its owner knows; it is called in the thread and must not block.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from paddock._logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Heartbeat", "Heartbeats", "heartbeats"]

_log = get_logger(__name__)


@dataclass(eq=False)
class Heartbeat:
    """One beat, sent every `interval` seconds until it is stopped."""

    beat: Callable[[], None]
    interval: float
    stopped: bool = field(default=False, init=False)

    def stop(self) -> None:
        """Send no more. One that is being sent just now may still be."""
        self.stopped = True


class Heartbeats:
    """All heartbeats of a process. The thread ends when there are none."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Heartbeat]] = []
        self._order = itertools.count()
        self._thread: threading.Thread | None = None

    def start(self, beat: Callable[[], None], interval: float) -> Heartbeat:
        """Have `beat` called every `interval` seconds from now on."""
        one = Heartbeat(beat, interval)
        with self._changed:
            self._schedule(one)
            if self._thread is None or not self._thread.is_alive():  # as after a fork
                self._thread = threading.Thread(
                    target=self._run, name="paddock-heartbeats", daemon=True
                )
                self._thread.start()
            self._changed.notify()
        return one

    def _schedule(self, one: Heartbeat) -> None:
        heapq.heappush(self._due, (time.monotonic() + one.interval, next(self._order), one))

    def _run(self) -> None:
        while (one := self._next()) is not None:
            try:
                one.beat()
            except RuntimeError as error:  # its event loop was closed and left it behind
                _log.debug("a heartbeat is stopped: %s", error)
                one.stop()
            with self._changed:
                if not one.stopped:
                    self._schedule(one)

    def _next(self) -> Heartbeat | None:
        """The next one, when it is due; None when there are no more."""
        with self._changed:
            while self._due:
                due, _, one = self._due[0]
                wait = due - time.monotonic()
                if one.stopped or wait <= 0:
                    heapq.heappop(self._due)
                    if not one.stopped:
                        return one
                else:
                    self._changed.wait(wait)
            self._thread = None
            return None


heartbeats = Heartbeats()
"""Of this process: one thread is enough for all sandboxes."""
