"""Waits for descriptors and timers, in one thread that never waits for anything else."""

from __future__ import annotations

import heapq
import selectors
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Callback = Callable[[], None]

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Poller:
    """Calls back when a descriptor is ready or a time has come."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Callback]] = []
        self._timer_count = 0

    def watch(self, fd: int, callback: Callback, events: int = READ) -> None:
        self._selector.register(fd, events, callback)

    def forget(self, fd: int) -> None:
        self._selector.unregister(fd)

    def after(self, seconds: float, callback: Callback) -> None:
        self._timer_count += 1  # breaks ties: callbacks do not compare
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._timer_count, callback))

    def wait(self, timeout: float | None) -> None:
        """Wait for events, at most for `timeout` seconds, and call back."""
        for key, _ in self._selector.select(timeout):
            # An earlier callback of this round may have closed this descriptor.
            if self._selector.get_map().get(key.fd) is key:
                key.data()

    def run_timers(self) -> float | None:
        """Call back for what is due; return seconds until the next timer, or None."""
        while self._timers:
            due = self._timers[0][0] - time.monotonic()
            if due > 0:
                return due
            heapq.heappop(self._timers)[2]()
        return None

    def close(self) -> None:
        self._selector.close()
