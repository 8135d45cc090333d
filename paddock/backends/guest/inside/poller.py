"""Waits for descriptors and timers, in one thread that never waits for anything else."""

from __future__ import annotations

import select
import time

from .light import heappop, heappush, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Callback = Callable[[], None]

READ, WRITE = select.POLLIN, select.POLLOUT
HAS_EPOLL = hasattr(select, "epoll")
"""With the same events as poll(2); in another unit of time."""


class Poller:
    """Calls back when a descriptor is ready or a time has come."""

    def __init__(self) -> None:
        self._poll = select.epoll() if HAS_EPOLL else select.poll()
        self._watched: dict[int, tuple[Callback]] = {}
        """By descriptor; one tuple stands for one `watch`."""
        self._timers: list[tuple[float, int, Callback]] = []
        self._timer_count = 0

    def watch(self, fd: int, callback: Callback, events: int = READ) -> None:
        """Call back whenever it is ready, until `forget`. `KeyError` if it is watched already."""
        if fd in self._watched:
            raise KeyError(f"descriptor {fd} is watched already")
        self._poll.register(fd, events)
        self._watched[fd] = (callback,)

    def forget(self, fd: int) -> None:
        del self._watched[fd]
        with suppress(OSError):  # it was closed already
            self._poll.unregister(fd)

    def after(self, seconds: float, callback: Callback) -> None:
        self._timer_count += 1  # breaks ties: callbacks do not compare
        heappush(self._timers, (time.monotonic() + seconds, self._timer_count, callback))

    def wait(self, timeout: float | None) -> None:
        """Wait for events, at most for `timeout` seconds, and call back."""
        if timeout is not None and not HAS_EPOLL:
            timeout *= 1000
        ready = [(fd, self._watched.get(fd)) for fd, _ in self._poll.poll(timeout)]
        for fd, watch in ready:
            # An earlier callback of this round may have closed this descriptor.
            if watch is not None and self._watched.get(fd) is watch:
                watch[0]()

    def run_timers(self) -> float | None:
        """Call back for what is due; return seconds until the next timer, or None."""
        while self._timers:
            due = self._timers[0][0] - time.monotonic()
            if due > 0:
                return due
            heappop(self._timers)[2]()
        return None

    def close(self) -> None:
        if hasattr(self._poll, "close"):
            self._poll.close()
