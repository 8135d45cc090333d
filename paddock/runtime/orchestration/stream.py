"""The stream of one run's events: what the run says, for hooks and for one reader."""

from __future__ import annotations

import asyncio
import copy
import functools
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from paddock._concurrency import finish
from paddock._logs import get_logger
from paddock.errors import SessionError
from paddock.runtime.core.calling import call
from paddock.runtime.core.cancellation import CancellationToken

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Sequence

__all__ = ["EventHook", "EventStream", "WireEvent", "WireSink"]

WireEvent = dict[str, Any]

EventHook = Callable[[WireEvent], Awaitable[object] | object]
"""Given a copy of each event. May be async; one that is not runs in a thread."""

BACKLOG = 64
"""Events that a run may be ahead of its reader; then it waits for the reader."""

HOOK_TIMEOUT = 30.0
"""Seconds that a hook may take with one event: it may write to a slow disk or service, and a run
must not wait for ever for one that hangs."""

_log = get_logger(__name__)


@dataclass(kw_only=True, eq=False)
class WireSink:
    """Where the events of one run go: to the `hooks`, then to the reader, in one order.

    `token` cancels the run, and so does `follows` while it runs. From then on the run waits for
    no reader: what it still says is little.
    """

    hooks: Sequence[EventHook] = ()
    follows: CancellationToken | None = None
    token: CancellationToken = field(default_factory=CancellationToken)
    _events: deque[WireEvent] = field(default_factory=deque)
    _order: asyncio.Lock = field(default_factory=asyncio.Lock)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _room: asyncio.Event = field(default_factory=asyncio.Event)
    _left: bool = False
    _ended: bool = False
    _forget: Callable[[], object] = lambda: None

    async def emit(self, event: WireEvent) -> None:
        """Give `event` out; wait while the reader is too far behind. After `leave`, drop it."""
        async with self._order:
            for hook in () if self._left else self.hooks:
                await _tell(hook, copy.deepcopy(event))
            while len(self._events) >= BACKLOG and not self.token.is_cancelled():
                self._room.clear()
                await self._room.wait()
            if not self._left:
                self._events.append(event)
                self._news.set()

    async def next(self) -> WireEvent | None:
        """Return the next event, once it has come; None after the last one."""
        while not self._events:
            if self._ended:
                return None
            self._news.clear()
            await self._news.wait()
        self._room.set()
        return self._events.popleft()

    def cancel(self, reason: str) -> None:
        """Cancel the run."""
        self.token.cancel(reason)
        self._room.set()

    def leave(self) -> None:
        """Note that the reader has left: cancel the run, and drop what it still emits."""
        self._left = True
        self._events.clear()
        self.cancel("the stream was closed")

    def begin(self) -> None:
        """Note that the run begins."""
        above, loop = self.follows, asyncio.get_running_loop()
        if above is not None:
            told = functools.partial(loop.call_soon_threadsafe, self._follow)
            self._forget = above.on_cancel(told)

    def end(self) -> None:
        """Note that no more events come."""
        self._forget()
        self._ended = True
        self._news.set()

    def _follow(self) -> None:
        self.cancel((self.follows and self.follows.reason) or "requested")


async def _tell(hook: EventHook, event: WireEvent) -> None:
    try:
        async with asyncio.timeout(HOOK_TIMEOUT):
            await call(hook, event)
    except Exception:
        _log.exception("an event hook failed; the run continues")


class EventStream:
    """The events of one run, as dictionaries, to iterate once::

        async for event in runtime.query("Say hello", thread_id="thread-1"):
            print(event)

    The run starts when the stream is first iterated. Leaving the loop cancels it, and so do
    `aclose()` and `cancel()`. A slow reader slows the run. To be read by one task.
    """

    def __init__(
        self, run_id: str, sink: WireSink, run: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        self.run_id = run_id
        self._sink = sink
        self._run = run
        self._task: asyncio.Task[None] | None = None
        self._is_read = False
        self._is_closed = False

    def __aiter__(self) -> Self:
        if self._is_read:
            raise SessionError(f"the events of run {self.run_id} are iterated already")
        self._is_read = True
        return self

    async def __anext__(self) -> WireEvent:
        if self._is_closed:
            raise StopAsyncIteration
        task = self._task or self._start()
        event = await self._sink.next()
        if event is not None:
            return event
        task.result()  # it may have been cancelled with its event loop
        raise StopAsyncIteration

    def cancel(self, reason: str = "requested") -> Awaitable[None]:
        """Cancel the run. What is returned may be awaited, until the run has ended, or dropped.

        The last events, with an ``error`` of the code ``cancelled``, can still be read.
        """
        self._sink.cancel(reason)
        return _Ending(self._task)

    async def aclose(self) -> None:
        """Cancel the run, and wait until it has ended. Idempotent."""
        self._is_closed = True
        if self._task is not None:
            self._sink.leave()
            await finish(asyncio.wait([self._task]))

    def _start(self) -> asyncio.Task[None]:
        sink = self._sink
        sink.begin()
        task = self._task = asyncio.create_task(self._run(), name=f"run {self.run_id}")
        task.add_done_callback(lambda _: sink.end())
        # Only a word to the run, which cleans up; this object may be forgotten before its end.
        loop = asyncio.get_running_loop()
        weakref.finalize(self, _leave, loop, sink).atexit = False
        return task


class _Ending:
    """Await it to wait until `task` has ended, or drop it."""

    def __init__(self, task: asyncio.Task[None] | None) -> None:
        self._task = task

    def __await__(self) -> Generator[object, None, None]:
        if self._task is not None:
            yield from asyncio.wait([self._task]).__await__()


def _leave(loop: asyncio.AbstractEventLoop, sink: WireSink) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(sink.leave)
