"""Removes what a sandbox leaves on an engine: now, or later if the engine does not answer now.

If the engine does not answer, the caller gets the error, and a task in the background tries again
until the engine answers. When the event loop ends first, that task abandons the owner's lock, so
that the reaper or the next sweep removes what is left.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from paddock._concurrency import in_background
from paddock.backends.docker.engine.client import EngineError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paddock.backends.docker.containers.owner import OwnerLock

    Removal = Callable[[], Awaitable[bool]]
    """Removes a thing; returns whether it existed."""

__all__ = ["remove", "watch"]

INTERVAL = 1.0
"""Seconds between two attempts to remove something."""
LATE = 60.0
"""Seconds after which an engine that answers again has done all that it was asked before."""
HANGING = 3600.0
"""Seconds for which an engine that does not answer is asked again; later, only sweeps remove."""


async def remove(lock: OwnerLock, removal: Removal) -> None:
    """Do `removal` and release the lock of what it removes.

    Raises `EngineError` if the engine refuses or does not answer; then others may remove it.
    """
    try:
        await removal()
    except EngineError as error:
        if error.status is None:
            watch(lock, removal)
        else:
            lock.abandon()
        raise
    except BaseException:
        lock.abandon()
        raise
    lock.release()


def watch(lock: OwnerLock, removal: Removal) -> None:
    """Remove in the background what is there, or appears late: an engine that hung still does what
    it was asked before. Stop when `lock` is released: then another call has removed it."""
    in_background(_keep_removing(lock, removal))


async def _keep_removing(lock: OwnerLock, removal: Removal) -> None:
    end, answering = time.monotonic() + HANGING, False
    try:
        while lock.is_held and time.monotonic() < end:
            await asyncio.sleep(INTERVAL)
            try:
                if await removal():
                    break
            except EngineError:
                continue
            if not answering:
                answering, end = True, time.monotonic() + LATE
    except BaseException:
        lock.abandon()
        raise
    lock.release()
