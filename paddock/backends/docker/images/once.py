"""One piece of work for all callers at the same time, within a process and among processes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from paddock._concurrency import Interrupted, cancel, is_interrupted
from paddock._places import cache_directory
from paddock.backends import lease

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

__all__ = ["Once", "locked"]

E = TypeVar("E")
POLL = 0.1
"""Seconds between two looks at a lock of another process: short compared to a build."""


@dataclass(eq=False)
class _Shared(Generic[E]):
    """Work under way, and the listeners that get its events."""

    task: asyncio.Task[None] | None = None
    listeners: list[Callable[[E], None]] = field(default_factory=list)

    def tell(self, event: E) -> None:
        for listener in tuple(self.listeners):
            listener(event)


class Once(Generic[E]):
    """Work by its key, each piece done once at a time in an event loop.

    A caller that asks for work under way waits for its end and gets its error. The work is
    cancelled with its last caller, which waits until it has ended.
    """

    def __init__(self) -> None:
        self._under_way: dict[tuple[asyncio.AbstractEventLoop, str], _Shared[E]] = {}

    async def run(
        self,
        key: str,
        work: Callable[[Callable[[E], None]], Coroutine[None, None, None]],
        listener: Callable[[E], None],
    ) -> None:
        """Wait for the work called `key`; begin it with `work` if it is not under way."""
        place = (asyncio.get_running_loop(), key)
        shared = self._under_way.setdefault(place, _Shared())
        if shared.task is None:
            shared.task = asyncio.create_task(work(shared.tell))
            shared.task.add_done_callback(lambda _: self._forget(place, shared))
        shared.listeners.append(listener)
        try:
            await asyncio.shield(shared.task)
        finally:
            shared.listeners.remove(listener)
            if not shared.listeners and not shared.task.done():
                self._forget(place, shared)
                await cancel(shared.task)

    def _forget(self, place: tuple[asyncio.AbstractEventLoop, str], shared: _Shared[E]) -> None:
        if self._under_way.get(place) is shared:
            del self._under_way[place]


@contextlib.asynccontextmanager
async def locked(key: str) -> AsyncIterator[None]:
    """Hold the lock called `key` among this user's processes. The kernel frees a dead process's."""
    folder = cache_directory() / "locks"
    folder.parent.mkdir(parents=True, exist_ok=True)
    lease.own_directory(folder)
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}{lease.LOCK}"
    while (held := _take(path)) is None:
        if is_interrupted():
            raise Interrupted("another process holds the lock")
        await asyncio.sleep(POLL)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(held)


def _take(path: Path) -> int | None:
    fd = lease.take(path, create=True)
    return fd if fd is not None else lease.take(path, create=False)
