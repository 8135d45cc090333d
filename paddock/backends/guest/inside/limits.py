"""How long a sandbox may live, and how long it may be idle: the guest ends it, hosts or not."""

from __future__ import annotations

import sys
import time

from .trees import kill_all_below

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .poller import Poller

TICK = 1.0
"""Seconds between two looks."""


class TimeLimits:
    """A lifetime goes by the clock, also while the sandbox is paused; idleness is counted in ticks.

    A sandbox is idle while no host asks for anything and no command of theirs runs (`is_busy`).
    """

    def __init__(self, poller: Poller, is_busy: Callable[[], bool]) -> None:
        self.poller = poller
        self.is_busy = is_busy
        self.lifetime: float | None = None
        self.end = 0.0
        self.idle_timeout: float | None = None
        self.idle = 0.0
        self.ticking = False

    def set(self, lifetime: float | None, idle_timeout: float | None) -> None:
        self.idle_timeout = idle_timeout
        self.idle = 0.0
        if lifetime is not None:
            self.renew(lifetime)
        self.begin()

    def renew(self, lifetime: float | None) -> None:
        """Begin the lifetime now: a new one, or the same again."""
        self.lifetime = self.lifetime if lifetime is None else lifetime
        if self.lifetime is None:
            raise ValueError("the sandbox has no lifetime; say how long it is to live from now on")
        self.end = time.monotonic() + self.lifetime
        self.begin()

    def begin(self) -> None:
        if not self.ticking:
            self.ticking = True
            self.poller.after(TICK, self.on_tick)

    def on_used(self) -> None:
        self.idle = 0.0

    def on_tick(self) -> None:
        self.idle = 0.0 if self.is_busy() else self.idle + TICK
        if self.lifetime is not None and time.monotonic() >= self.end:
            finish(f"its lifetime of {self.lifetime:g} s is over")
        if self.idle_timeout is not None and self.idle >= self.idle_timeout:
            finish(f"it was idle for {self.idle_timeout:g} s")
        self.poller.after(TICK, self.on_tick)


def finish(why: str) -> None:
    sys.stderr.write(f"{why}\n")
    sys.stderr.flush()
    kill_all_below()
