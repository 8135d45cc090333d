"""Waiters for something in this process, in any of its event loops, and how they wake."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Waiters"]


class Waiters:
    """Events by keys. For any thread."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, dict[asyncio.Event, asyncio.AbstractEventLoop]]
        self._waiting = defaultdict(dict)
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def waiting(self, key: str) -> Iterator[asyncio.Event]:
        """Have an event in the block that each `wake` of `key` sets."""
        woken = asyncio.Event()
        with self._lock:
            self._waiting[key][woken] = asyncio.get_running_loop()
        try:
            yield woken
        finally:
            with self._lock:
                del self._waiting[key][woken]
                if not self._waiting[key]:
                    del self._waiting[key]

    def wake(self, *keys: str) -> None:
        """Set the events of these keys."""
        with self._lock:
            woken = [each for key in keys for each in self._waiting.get(key, {}).items()]
        for event, loop in woken:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(event.set)
