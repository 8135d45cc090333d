"""A limit for the time of work, which does not count while a person is asked."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ANSWER_TIMEOUT", "PausableTimeout"]

ANSWER_TIMEOUT = 600.0
"""Seconds that a person may take to answer while a call waits: they may be elsewhere, and most
clients give a call up before."""


class PausableTimeout:
    """`limit` is an `asyncio.timeout` of so many seconds; None is no limit."""

    def __init__(self, seconds: float | None) -> None:
        self.limit = asyncio.timeout(seconds)
        self._pauses = 0
        self._left: float | None = None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock during the block. Enter and leave it within the block of `limit`."""
        loop, ends = asyncio.get_running_loop(), self.limit.when()
        if ends is not None and not self.limit.expired():
            self._left = ends - loop.time()
            self.limit.reschedule(None)
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            if self._left is not None and not self._pauses:
                self.limit.reschedule(loop.time() + self._left)
                self._left = None
