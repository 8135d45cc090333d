"""Claims: what one process does for a while, and others take over when it has died.

A claim holds until a time and is renewed. A process of this machine that has died is seen at
once, without waiting for its claims to expire.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

from paddock._concurrency import cancel
from paddock._logs import get_logger
from paddock.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = ["CLAIM", "RENEWALS", "Claim", "renewing"]

CLAIM = 60.0
"""Seconds for which a claim holds: longer than a worker's event loop is ever held up, and short
enough to wait for when a worker of another machine has died."""

RENEWALS = 3
"""Renewals of a claim until it would end, so that one or two may fail."""

_log = get_logger(__name__)

_GONE = frozenset("ZX")
"""States of a process that has ended and was not waited for yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who does something, as others read it: `until` is in seconds since the epoch."""

    holder: str
    until: float
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    @classmethod
    def take(cls) -> Self:
        """Return a new claim of this process."""
        return cls(holder=_holder("self"), until=time.time() + CLAIM)

    def renewed(self) -> Self:
        """Return the same claim, which holds for longer."""
        return replace(self, until=time.time() + CLAIM)

    @property
    def left(self) -> float:
        """Seconds for which it still holds; at most 0 if it does not."""
        return 0.0 if _is_dead(self.holder) else self.until - time.time()

    @property
    def holds(self) -> bool:
        return self.left > 0


@contextlib.asynccontextmanager
async def renewing(
    renew: Callable[[], Awaitable[bool]], *, name: str, seconds: float = CLAIM
) -> AsyncIterator[None]:
    """Call `renew` while the block runs, often enough for a claim of so many `seconds`.

    It returns False when there is nothing more to renew. Its `SessionError`s are logged, with the
    `name` of the claim: the next call may succeed.
    """
    task = asyncio.create_task(_renew(renew, name, seconds), name=name)
    try:
        yield
    finally:
        await cancel(task)


async def _renew(renew: Callable[[], Awaitable[bool]], name: str, seconds: float) -> None:
    is_held = True
    while is_held:
        await asyncio.sleep(seconds / RENEWALS)
        try:
            is_held = await renew()
        except SessionError as error:
            _log.warning("the %s could not be renewed: %s", name, error)


def _is_dead(holder: str) -> bool:
    """Whether the process ran on this machine and has ended."""
    place, _, process = holder.rpartition("/")
    pid = process.partition("@")[0]
    return bool(place) and place == _place() and _holder(pid) != holder


def _holder(pid: str) -> str:
    """Identify a process that lives; empty if it does not, or where that cannot be known."""
    try:
        stat = Path("/proc", pid, "stat").read_text(errors="replace")
    except OSError:
        return ""
    # The name of a process stands in parentheses, and may have any characters itself.
    state, *rest = stat[stat.rindex(")") + 2 :].split()
    started = rest[18]
    return "" if state in _GONE else f"{_place()}/{stat.split()[0]}@{started}"


@cache
def _place() -> str:
    """Identify this boot of this machine, and the process ids that are seen here."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}.{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""
