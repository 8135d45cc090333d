"""How many sandboxes may start at once, and how many may run. Decisions without I/O.

Starts follow the gradient of the time that a sandbox takes to be made: while it stays near the
shortest that was seen, more may start; when an engine has more than it can do, fewer. Running
sandboxes are limited by the memory that their recipe declares. The load of the CPU plays no part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

__all__ = ["MemoryLimit", "StartLimit"]

FIRST = 8.0
"""Starts at once in the beginning: an engine on a small machine makes as many without queueing."""

LEAST, MOST = 2.0, 256.0

TOLERANCE = 2.0
"""How many times the shortest start one may take before fewer start at once."""

SMOOTHING = 0.2
"""Weight of the last start in the limit: one that was slow by chance changes little."""


@dataclass(slots=True, kw_only=True)
class StartLimit:
    """Limits the sandboxes that are being made, by how long they take."""

    limit: float = FIRST
    shortest: float = math.inf
    _starting: set[str] = field(default_factory=set)

    def reason(self) -> str | None:
        """Return why no further sandbox may start now; None if one may."""
        if len(self._starting) < int(self.limit):
            return None
        return f"{len(self._starting)} sandboxes are starting"

    def begin(self, key: str) -> None:
        self._starting.add(key)

    def made(self, key: str, seconds: float) -> None:
        """Note that a sandbox is ready after `seconds`; nothing if it was not said to start."""
        if key not in self._starting:
            return
        full = len(self._starting) * 2 > self.limit  # else the limit is not what was measured
        self._starting.discard(key)
        self.shortest = min(self.shortest, seconds)
        gradient = max(0.5, min(1.0, TOLERANCE * self.shortest / max(seconds, 1e-6)))
        if gradient == 1.0 and not full:
            return
        aim = gradient * self.limit + (math.sqrt(self.limit) if gradient == 1.0 else 0.0)
        self.limit += SMOOTHING * (aim - self.limit)
        self.limit = max(LEAST, min(MOST, self.limit))

    def ended(self, key: str) -> None:
        """Note that an attempt has ended, whether its sandbox was made or not."""
        self._starting.discard(key)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimit:
    """Limits sandboxes that may use `each` bytes to what fits into `total`; None is no limit."""

    total: int | None
    each: int | None

    def reason(self, running: int) -> str | None:
        """Return why no further sandbox may run beside `running` ones; None if one may.

        One may always run: it fits, or fails by itself.
        """
        if self.total is None or self.each is None or not running:
            return None
        if (running + 1) * self.each <= self.total:
            return None
        return f"{running} sandboxes of {_mib(self.each)} fit into {_mib(self.total)}"


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
