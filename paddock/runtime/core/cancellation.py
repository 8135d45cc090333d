"""Cancelling a run from anywhere: a token, and the scope in which it is heard.

`asyncio.Task.cancel` reaches one task and is an exception for its caller. A token
reaches whatever runs under it, from any thread, and ends it with a result. Knows
nothing of agents.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Self

from paddock._concurrency import cancel
from paddock.runtime.core.calling import call, is_async
from paddock.runtime.core.inside import current

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["CancelCheck", "CancelScope", "CancellationToken"]

CancelCheck = Callable[[], Awaitable[bool] | bool]
"""True ends the run. Asked again only when it has answered. May be async; one that is not runs in
a thread."""

ANSWER_TIMEOUT = 1.0
"""Seconds for which a step of the run waits for a synchronous check to answer. One that only looks
at something takes less than a millisecond; one that takes longer is not waited for again."""

CHECKED = "cancel_check"
"""Why a block ends that a `CancelCheck` ended."""

POLL_INTERVAL = 0.5
"""Seconds between two looks at what can only be polled (`cancel_check`, a sentinel
file) while a tool or the model is at work: a person does not feel it, and a thousand
runs at once cost a few per cent of a core."""


class CancellationToken:
    """Asks whatever runs under it to stop. May be used from any thread, once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reason: str | None = None
        self._cancelled_at: dt.datetime | None = None
        self._callbacks: dict[object, Callable[[], object]] = {}

    def cancel(self, reason: str = "requested") -> None:
        """Cancel. Idempotent: the first reason is kept."""
        with self._lock:
            if self._reason is not None:
                return
            self._cancelled_at = dt.datetime.now(dt.UTC)
            self._reason = reason
            callbacks = list(self._callbacks.values())
        for callback in callbacks:
            callback()

    def is_cancelled(self) -> bool:
        return self._reason is not None

    @property
    def reason(self) -> str | None:
        """Why; None before."""
        return self._reason

    @property
    def cancelled_at(self) -> dt.datetime | None:
        """When (UTC); None before."""
        return self._cancelled_at

    def on_cancel(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call `callback` at `cancel()`, in its thread; at once if that was earlier.

        Returns a function that takes the callback out again.
        """
        key = object()
        with self._lock:
            already = self._reason is not None
            if not already:
                self._callbacks[key] = callback
        if already:
            callback()
        return lambda: self._forget(key)

    def follow(self, other: CancellationToken | None) -> Callable[[], None]:
        """Be cancelled when `other` is, which more may follow; what is returned undoes it."""
        if other is None:
            return lambda: None
        return other.on_cancel(lambda: self.cancel(other.reason or "requested"))

    def _forget(self, key: object) -> None:
        with self._lock:
            self._callbacks.pop(key, None)


class CancelScope:
    """A block that ends early, without an exception, when its token is cancelled.

    Inside, the cancellation is an `asyncio.CancelledError` at the current await, or at
    the next `check()`. `cancelled` tells afterwards that this happened. A cancellation
    of the task itself passes through. `poll` returns a reason, or None to continue;
    `cancel_check` may block, or take its time. Both are asked every `POLL_INTERVAL` and at each
    `check()`. An error that one raises ends the block and is raised.
    """

    def __init__(
        self,
        token: CancellationToken | None,
        *,
        poll: Callable[[], str | None] | None = None,
        cancel_check: CancelCheck | None = None,
    ) -> None:
        self._token = CancellationToken() if token is None else token
        self._poll = poll
        self._cancel_check = cancel_check
        self._is_polled = poll is not None or cancel_check is not None
        self._polled: str | None = None
        self._answer: asyncio.Future[bool] | None = None
        self._is_slow = False
        """Whether `cancel_check` has its time: it is async, or has met `ANSWER_TIMEOUT`."""
        self._failure: Exception | None = None
        self._delivered = False
        self._interrupted = False
        self._left = False
        self._timer: asyncio.TimerHandle | None = None
        self.cancelled: bool = False

    @property
    def reason(self) -> str | None:
        """Why the block ended early."""
        return self._polled if self._token.reason is None else self._token.reason

    async def check(self) -> None:
        """Raise if the block has to end. For code that may run long without waiting."""
        if self.reason is None:
            self._polled = self._ask()
            answer = self._answer
            if answer is not None and not self._is_slow:
                await asyncio.wait([answer], timeout=ANSWER_TIMEOUT)
                self._is_slow = not answer.done()
                if self._polled is None and answer is self._answer:
                    self._polled = self._ask()
        if self.reason is not None:
            self._delivered = True  # a delivery on its way would come a second time
            raise asyncio.CancelledError

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._task = current()
        self._cancelling = self._task.cancelling()
        self._forget = self._token.on_cancel(self._wake)
        if self._is_polled:
            self._timer = self._loop.call_later(POLL_INTERVAL, self._look)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> bool:
        self._left = True
        self._forget()
        if self._timer is not None:
            self._timer.cancel()
        if self._answer is not None:
            await cancel(self._answer)
        if self._interrupted:
            self._task.uncancel()
        from_outside = self._task.cancelling() > self._cancelling
        if not isinstance(exc, asyncio.CancelledError) or from_outside or not self._delivered:
            return False
        if self._failure is not None:
            raise self._failure
        self.cancelled = True
        return True

    def _wake(self) -> None:
        """Deliver from the loop, never from inside the task: it is suspended then."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        if self._left or self._delivered:
            return
        self._delivered = self._interrupted = True
        self._task.cancel()

    def _ask(self) -> str | None:
        """Why the block has to end, as far as the polls have answered."""
        if self._poll is not None and (reason := self._poll()) is not None:
            return reason
        check = self._cancel_check
        return CHECKED if check is not None and self._asked(check) else None

    def _asked(self, cancel_check: CancelCheck) -> bool:
        if self._answer is None:
            self._is_slow = self._is_slow or is_async(cancel_check)
            self._answer = asyncio.ensure_future(call(cancel_check))
        if not self._answer.done():
            return False
        answered, self._answer = self._answer, None
        return answered.result()

    def _look(self) -> None:
        try:
            self._polled = self._polled or self._ask()
        except Exception as error:
            self._failure = error
        if self._polled is not None or self._failure is not None:
            self._deliver()
        else:
            self._timer = self._loop.call_later(POLL_INTERVAL, self._look)
