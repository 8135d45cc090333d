"""How clean-up survives cancellation; knows nothing of sandboxes.

`finish` and `acquire` run work in a task of its own, remember a cancellation of their caller and
raise it once the work has ended. So that a cancelled caller is not held up by a peer that hangs,
they pass the cancellation on to those calls of the work which may hang: each such call is awaited
through `interruptible`, which raises `Interrupted` after `CANCEL_TIMEOUT` more seconds. Work that
cannot hang, such as a write in a thread, is never interrupted.
"""

from __future__ import annotations

import asyncio
import contextvars
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

__all__ = [
    "AsyncResource",
    "Interrupted",
    "Shared",
    "Signal",
    "acquire",
    "cancel",
    "finish",
    "in_background",
    "interruptible",
    "is_interrupted",
]

T = TypeVar("T")

CANCEL_TIMEOUT = 3.0
"""Seconds that a call which may hang has left when its caller was cancelled: a person who presses
Ctrl-C waits for it, and an engine under load takes 2 s to remove a container."""


class Signal:
    """An `asyncio.Event` of a tenth of its size, of which each session has half a dozen."""

    __slots__ = ("_is_set", "_waiting")

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: list[asyncio.Future[None]] | None = None

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        for waiting in self._waiting or ():
            if not waiting.done():
                waiting.set_result(None)

    def clear(self) -> None:
        self._is_set = False

    async def wait(self) -> None:
        """Return once it was set, also if it was cleared meanwhile."""
        if self._is_set:
            return
        waiting = asyncio.get_running_loop().create_future()
        if self._waiting is None:
            self._waiting = []
        self._waiting.append(waiting)
        try:
            await waiting
        finally:
            self._waiting.remove(waiting)


class Interrupted(Exception):
    """A call had not returned `CANCEL_TIMEOUT` seconds after its caller was cancelled."""


class Shared(Generic[T]):
    """Work in a task of its own, for any number of callers to wait for."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self.given_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when a caller that waits was cancelled."""
        context = contextvars.copy_context()
        context.run(_current.set, self)
        self._task = asyncio.create_task(work, context=context)
        self._task.add_done_callback(_forget, context=context)

    async def wait(self) -> T:
        """Return the work's result, or raise its error.

        A cancellation is raised once the work has ended, in preference to its error.
        """
        return self.outcome(await self.outlast())

    def outcome(self, cancelled: asyncio.CancelledError | None = None) -> T:
        """Return the result of work that has ended, or raise `cancelled` or else its error."""
        if cancelled is None:
            return self._task.result()
        raise cancelled from (None if self._task.cancelled() else self._task.exception())

    async def outlast(self) -> asyncio.CancelledError | None:
        """Wait for the work's end; return the last cancellation that came meanwhile."""
        cancelled: asyncio.CancelledError | None = None
        above = _enclosing()
        while not self._task.done():
            waiting: set[asyncio.Future[Any]] = {self._task}
            if above is not None:
                if above.given_up.done():
                    self.give_up()
                else:
                    waiting.add(above.given_up)
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError as error:
                cancelled = error
                self.give_up()
        return cancelled

    def give_up(self) -> None:
        """Interrupt the calls of the work which hang, now and later."""
        if not self.given_up.done():
            self.given_up.set_result(None)

    @property
    def is_current(self) -> bool:
        """Whether the work still runs, in this event loop."""
        return not self._task.done() and self._task.get_loop() is asyncio.get_running_loop()

    @property
    def failed(self) -> bool:
        """Whether the work ended with an error."""
        return self._task.done() and (self._task.cancelled() or self._task.exception() is not None)


class AsyncResource(ABC):
    """Something to close: use it as ``async with``, or call `aclose()` yourself."""

    _closing: Shared[None] | None = None

    async def aclose(self) -> None:
        """Release what this object has.

        Idempotent; callers at the same time wait for the one that closes. Runs to its end even
        if the caller is cancelled, but then waits no longer for a peer that does not answer.
        If it fails, the object is closed nevertheless, and the next call tries again.
        """
        await self._end_with(self._close)

    @abstractmethod
    async def _close(self) -> None:
        """Release everything; never cancelled, bounds its own waits.

        Called again only after it has failed, to release what is left.
        """

    async def _end_with(self, ending: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """End this object by the first `ending` that is asked for, or by the next if it fails."""
        if self._closing is None or self._closing.failed:
            self._closing = Shared(ending())
        await self._closing.wait()

    @property
    def closed(self) -> bool:
        """Whether closing has begun."""
        return self._closing is not None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()


_current: contextvars.ContextVar[Shared[Any] | None] = contextvars.ContextVar(
    "paddock_shared_work", default=None
)


def _forget(_ended: asyncio.Future[Any]) -> None:
    """Have the context of a task that ended forget whose work it was: else they, and all that they
    know, would keep each other in memory until the next collection of garbage."""
    _current.set(None)


async def finish(work: Coroutine[Any, Any, T], *, cancelled: bool = False) -> T:
    """Run `work` to its end in a task of its own, whatever happens to the caller.

    A cancellation that arrives meanwhile, however often, is remembered and raised
    once `work` has ended (in preference to an error of `work`, which is then its
    context). `work` has to bound its own waits, and await what may hang by `interruptible`.
    `cancelled` says that the caller was cancelled before: it waits for no call that hangs.
    """
    shared = Shared(work)
    if cancelled:
        shared.give_up()
    return await shared.wait()


async def acquire(work: Coroutine[Any, Any, T], release: Callable[[T], Awaitable[object]]) -> T:
    """As `finish`, for work whose result has to be released when its caller was cancelled."""
    shared = Shared(work)
    cancelled = await shared.outlast()
    if cancelled is None or shared.failed:
        return shared.outcome(cancelled)
    releasing = Shared(_release(release, shared.outcome()))
    releasing.give_up()  # whoever is to hear of the cancellation has waited once already
    await releasing.outlast()
    raise cancelled


async def _release(release: Callable[[T], Awaitable[object]], result: T) -> None:
    await release(result)


async def interruptible(work: Awaitable[T]) -> T:
    """Await a call which may hang.

    Raises `Interrupted`, and cancels the call, when it is part of work for `finish`, `acquire` or
    a `Shared`, and does not return within `CANCEL_TIMEOUT` seconds after a caller of that was
    cancelled.
    """
    above = _enclosing()
    if above is None:
        return await work
    call = asyncio.ensure_future(work)
    first: set[asyncio.Future[Any]] = {call, above.given_up}
    try:
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait([call], timeout=CANCEL_TIMEOUT)
        if call.done():
            return call.result()
        raise Interrupted(f"no answer within {CANCEL_TIMEOUT:g} s of the cancellation")
    finally:
        call.cancel()


async def cancel(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks, and return when they have ended, whatever happens to the caller.

    They have to end promptly. An error that one ends with is ignored unless the caller looks.
    """
    for task in tasks:
        task.cancel()
    await finish(_ended(tasks))


async def _ended(tasks: Sequence[asyncio.Future[Any]]) -> None:
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # or asyncio would print it


def is_interrupted() -> bool:
    """Whether a caller of the work that this is part of was cancelled."""
    above = _enclosing()
    return above is not None and above.given_up.done()


def in_background(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run `work` in a task that nobody has to keep; the end of the event loop cancels it."""
    context = contextvars.copy_context()
    context.run(_current.set, None)
    task = asyncio.create_task(work, context=context)
    _background.add(task)
    task.add_done_callback(_background.discard)
    return task


_background: set[asyncio.Task[Any]] = set()
"""An event loop keeps only weak references to its tasks."""


def _enclosing() -> Shared[Any] | None:
    """Return the work that the caller is part of. A task that the work began may outlive it, and
    is then part of none."""
    above = _current.get()
    return above if above is not None and above.is_current else None
