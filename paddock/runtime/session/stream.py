"""A run as something to iterate: `Session.stream`. Knows no session."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from paddock._concurrency import finish
from paddock.errors import SessionError
from paddock.runtime.core.cancellation import CancellationToken
from paddock.runtime.core.emitter import Envelope, EventSink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from types import TracebackType

    from paddock.runtime.conversation.results import RunResult

__all__ = ["RunStream", "ShownTo"]

E = TypeVar("E")

BACKLOG = 64
"""Events that a run may be ahead of its reader; beyond that it waits."""


class ShownTo(EventSink):
    """Shows every envelope to a callback."""

    def __init__(self, show: Callable[[Envelope], Awaitable[None]]) -> None:
        self._show = show

    async def show(self, envelope: Envelope) -> None:
        await self._show(envelope)


class RunStream(Generic[E]):
    """The events of a run, as they happen. Use it as ``async with``, and iterate inside.

    The run begins with the block. Leaving the block before the last event cancels the
    run and waits for its end, as a cancellation of the block does. A reader that is
    slow slows the run. What the run raises is raised by the iteration, or else at the
    end of the block. To be read by one task.
    """

    def __init__(
        self,
        start: Callable[
            [Callable[[E], Awaitable[None]], CancellationToken], Coroutine[Any, Any, RunResult]
        ],
        token: CancellationToken | None = None,
    ) -> None:
        """`start` begins the run; `token` cancels it."""
        self._start = start
        self._token = CancellationToken()
        self._follows = token
        self._queue: asyncio.Queue[E | None] = asyncio.Queue(BACKLOG)
        self._task: asyncio.Task[RunResult] | None = None
        self._left = False
        self._told = False

    @property
    def result(self) -> RunResult:
        """How the run ended. Raises `SessionError` before that, and what the run raised."""
        if self._task is None or not self._task.done():
            raise SessionError("the run has not ended yet")
        return self._task.result()

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise SessionError("a stream is for one run")
        forget = self._token.follow(self._follows)
        self._task = asyncio.create_task(self._start(self._show, self._token), name="run")
        self._task.add_done_callback(lambda _: forget())
        self._task.add_done_callback(self._wake)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        assert self._task is not None  # the block was entered
        await finish(self._end(self._task))
        if exc is None and not self._told:
            self._task.result()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        if self._task is None:
            raise SessionError("the stream has to be entered with 'async with' first")
        if not (self._task.done() and self._queue.empty()):
            event = await self._queue.get()
            if event is not None:
                return event
            self._queue.put_nowait(None)  # another task may wait, too
        self._told = True
        self._task.result()
        raise StopAsyncIteration

    async def _show(self, event: E) -> None:
        if not self._left:
            await self._queue.put(event)

    def _wake(self, _task: asyncio.Task[RunResult]) -> None:
        """Tell a reader that waits; one that does not wait yet looks at the task itself."""
        if not self._queue.full():
            self._queue.put_nowait(None)

    async def _end(self, task: asyncio.Task[RunResult]) -> None:
        self._left = True
        self._token.cancel("the stream was closed")
        while (
            not self._queue.empty()
        ):  # a sink that waits to emit an event need not wait any longer
            self._queue.get_nowait()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # raised to the iterator already, or at the end of the block
