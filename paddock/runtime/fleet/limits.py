"""How many sandboxes may start at once, and how many may run. Decisions without I/O.

Starts follow the gradient of the time that a sandbox takes to be made: while it stays near the
shortest that was seen, more may start; when an engine has more than it can do, fewer. Running
sandboxes are limited by the memory that their recipe declares, or that they are seen to use, and
by how short of memory the machine is. The load of the CPU plays no part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paddock.runtime.fleet.memory import MachineMemory

__all__ = ["MemoryLimit", "StartLimit"]

FIRST = 8.0
"""Starts at once in the beginning: an engine on a small machine makes as many without queueing."""

LEAST, MOST = 2.0, 256.0

TOLERANCE = 2.0
"""How many times the shortest start one may take before fewer start at once."""

SMOOTHING = 0.2
"""Weight of the last start in the limit: one that was slow by chance changes little."""

SHARE = 0.9
"""Of the memory that is available; the rest is for this process and for engines."""

PRESSURE = 10.0
"""Percentage of the time that some process waits for memory. A machine with enough of it is at 0;
one that swaps all the time, or reads its programs again and again, is far above."""

FORGETTING = 0.95
"""What is left, after each look, of the memory that sandboxes were seen to use."""


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

    @property
    def starting(self) -> int:
        return len(self._starting)

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


@dataclass(slots=True, kw_only=True)
class MemoryLimit:
    """Limits the sandboxes that run on one machine.

    To what fits into `total`, where each takes the bytes that it declares or else those that
    sandboxes were seen to use; without a declaration also to what is available; and to those
    that run, while the machine is short of memory.
    """

    total: int | None
    each: int | None

    observed: float = 0.0
    """The most bytes that a sandbox was seen to use, on an average of those that ran together."""
    now: MachineMemory | None = None
    _before: int = 0
    """What was available while none ran."""

    def observe(self, now: MachineMemory, running: int) -> None:
        """Note how the memory of the machine is, while so many sandboxes run."""
        self.now = now
        if running == 0 or not self._before:
            self._before = now.available
            if self.total is None and self.each is not None:
                self.total = int(now.available * SHARE)
        elif self._before > now.available:
            used = (self._before - now.available) / running
            self.observed = max(self.observed * FORGETTING, used)

    def reason(self, running: int, starting: int) -> str | None:
        """Return why no further sandbox may run beside `running` ones; None if one may.

        `starting` ones do not use their memory yet. One may always run: it fits, or fails by
        itself.
        """
        if not running:
            return None
        each = self.observed if self.each is None else self.each
        if self.total is not None and (running + 1) * each > self.total:
            return f"{running} sandboxes of {_mib(each)} fit into {_mib(self.total)}"
        if self.now is None:
            return None
        if self.now.pressure >= PRESSURE:
            return f"processes wait for memory {self.now.pressure:.0f} % of the time"
        needed = self.observed * (starting + 1) + self._before * (1 - SHARE)
        if self.each is None and needed > self.now.available:
            used, left = _mib(self.observed), _mib(self.now.available)
            return f"sandboxes use {used} each, and {left} are available"
        return None


def _mib(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"
