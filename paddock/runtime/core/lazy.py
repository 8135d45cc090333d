"""Keeping one thing open for a session: made when first asked for, closed by its own task.

The task that makes the thing also waits and closes it. So it is closed when the
session says so, when the session is garbage-collected, and when the event loop ends
(which cancels its tasks): a session that was never closed leaves nothing behind.
Knows neither sandboxes nor models.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from paddock._concurrency import Signal, cancel, finish
from paddock.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextvars import Context

__all__ = ["Closable", "LazyResource"]


class Closable(Protocol):
    async def aclose(self) -> None: ...


T = TypeVar("T", bound=Closable)


@dataclass(eq=False)
class _Kept(Generic[T]):
    """One thing, from the wish for it to its end."""

    loop: asyncio.AbstractEventLoop
    ready: asyncio.Future[T]
    closing: Signal = field(default_factory=Signal)
    waiting: int = 0
    renewed: bool = False
    task: asyncio.Task[None] = field(init=False)


class LazyResource(Generic[T]):
    """Makes one `T` with `create`, for any number of askers, and keeps it.

    `context` is the context that its task runs in, by default a copy of the first asker's.
    May be used again after `aclose()`, and in another event loop after the first one
    ended: then a new one is made.
    """

    def __init__(
        self, create: Callable[[], Awaitable[T]], *, name: str, context: Context | None = None
    ) -> None:
        self._create = create
        self._name = name
        self._context = context
        self._kept: _Kept[T] | None = None
        self._retired: set[_Kept[T]] = set()

    async def get(self) -> T:
        """Return the thing; make it first if need be. Concurrent callers share one making.

        What `create` raises is raised to all of them, and the next call tries again.
        The making is cancelled when no call waits for it. Raises `SessionError`
        if it is closed meanwhile.
        """
        while True:
            kept = self._kept
            if kept is None or kept.task.done():
                kept = self._kept = self._start()
            thing = await self._wait(kept)
            if not kept.renewed:  # else it is being closed
                return thing

    async def _wait(self, kept: _Kept[T]) -> T:
        kept.waiting += 1
        try:
            return await asyncio.shield(kept.ready)
        finally:
            kept.waiting -= 1
            if not kept.waiting and not kept.ready.done():
                await cancel(kept.task)

    async def aclose(self) -> None:
        """Close the thing, if there is one, or stop making it; with those that were renewed.

        Idempotent; runs to its end if cancelled. Raises what closing it raised.
        """
        every = {*self._retired, self._kept}
        going = [kept for kept in every if kept is not None and not kept.task.done()]
        for kept in going:
            if kept.ready.done():
                kept.closing.set()
            else:
                kept.task.cancel()
        tasks = [kept.task for kept in going]
        if tasks:
            await finish(asyncio.wait(tasks))
        for task in tasks:
            if not task.cancelled():
                task.result()

    def renew(self) -> None:
        """Let the next asker have a new one; its own task closes the one that there is.

        Callers that wait for its making get the new one too.
        """
        kept, self._kept = self._kept, None
        if kept is not None and not kept.task.done():
            self._retired.add(kept)
            kept.task.add_done_callback(lambda _: self._retired.discard(kept))
            kept.renewed = True
            kept.closing.set()

    def release(self) -> None:
        """Ask for the same from anywhere, without waiting: for what was forgotten."""
        if self._kept is not None and not self._kept.loop.is_closed():
            self._kept.loop.call_soon_threadsafe(self._kept.closing.set)

    def _start(self) -> _Kept[T]:
        loop = asyncio.get_running_loop()
        kept: _Kept[T] = _Kept(loop, loop.create_future())
        kept.task = loop.create_task(self._keep(kept), name=self._name, context=self._context)
        return kept

    async def _keep(self, kept: _Kept[T]) -> None:
        try:
            thing = await self._create()
        except Exception as error:
            kept.ready.set_exception(error)
            return
        except BaseException:
            if kept.waiting:
                kept.ready.set_exception(SessionError(f"the {self._name} was closed"))
            else:
                kept.ready.cancel()
            raise
        try:
            kept.ready.set_result(thing)
            await kept.closing.wait()
        finally:
            await finish(thing.aclose())
