"""A clock that a test can move on, so that an hour of idling costs nothing."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Clock"]


class Clock:
    """Real time plus what it was advanced by. Never goes back."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._listeners: list[Callable[[], None]] = []

    def now(self) -> dt.datetime:
        """Now, in UTC."""
        return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self._ahead)

    def seconds(self) -> float:
        """Seconds since some fixed moment."""
        return time.monotonic() + self._ahead

    def advance(self, seconds: float) -> None:
        """Move on by `seconds`; what falls due by that has begun when this returns."""
        if seconds < 0:
            raise ValueError(f"a clock does not go back: {seconds}")
        self._ahead += seconds
        for listener in self._listeners:
            listener()

    def when_advanced(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every advance."""
        self._listeners.append(listener)
