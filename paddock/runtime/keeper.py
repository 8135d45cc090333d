"""Keeping one thing open for a session: made when first asked for, closed by its own task.

The task that makes the thing also waits and closes it. So it is closed when the
session says so, when nobody holds the session any more, and when the event loop ends
(which cancels its tasks): a session that was never closed leaves nothing behind.
Knows neither sandboxes nor models.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from paddock._concurrency import finish

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Keeper"]


class Closable(Protocol):
    async def aclose(self) -> None: ...


T = TypeVar("T", bound=Closable)


class Keeper(Generic[T]):
    """Makes one `T` with `create`, for any number of askers, and keeps it.

    May be used again after `aclose()`, and in another event loop after the first one
    ended: then a new one is made.
    """

    def __init__(self, create: Callable[[], Awaitable[T]], *, name: str) -> None:
        self._create = create
        self._name = name
        self._task: asyncio.Task[None] | None = None
        self._waiting = 0

    async def get(self) -> T:
        """The thing, made now if it is not there. All who wait meanwhile share one making.

        What `create` raises is raised to all of them, and the next call tries again.
        The making is cancelled when nobody waits for it any more.
        """
        if self._task is None or self._task.done():
            self._start()
        task, ready = self._task, self._ready
        assert task is not None  # `_start` made it
        self._waiting += 1
        try:
            return await asyncio.shield(ready)
        finally:
            self._waiting -= 1
            if not self._waiting and not ready.done():
                task.cancel()
                await finish(_ended(task))

    async def aclose(self) -> None:
        """Close the thing, if there is one. Idempotent; runs to its end if cancelled.

        Raises what closing it raised.
        """
        task = self._task
        if task is None or task.done():
            return
        self._closing.set()
        await finish(_ended(task))
        self._task = None
        if not task.cancelled():
            task.result()

    def release(self) -> None:
        """Ask for the same from anywhere, without waiting: for what was forgotten."""
        if self._task is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._closing.set)

    def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting = 0
        self._ready: asyncio.Future[T] = self._loop.create_future()
        self._closing = asyncio.Event()
        self._task = self._loop.create_task(self._keep(self._ready, self._closing), name=self._name)

    async def _keep(self, ready: asyncio.Future[T], closing: asyncio.Event) -> None:
        try:
            thing = await self._create()
        except Exception as error:
            ready.set_exception(error)
            return
        except BaseException:
            ready.cancel()
            raise
        try:
            ready.set_result(thing)
            await closing.wait()
        finally:
            await finish(thing.aclose())


async def _ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task])
