"""Warm sandboxes of one recipe: made ahead, handed out once, replaced in the background.

All decisions are in `PoolState.settle`: one synchronous function over plain data decides who
gets which sandbox, what is taken down and how many are made. `SandboxPool` does what it
says; it awaits nothing between a decision and its effect, so a cancellation cannot split
one. This module knows no backend: a pool is given the function that makes a sandbox.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from paddock._concurrency import AsyncResource
from paddock.errors import ConfigError, SandboxClosed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from paddock.sandbox import Sandbox

__all__ = ["Decision", "PoolState", "PoolStats", "SandboxPool"]

BACKOFF = 0.5
"""Seconds without a new attempt after the first failure; each further one doubles them."""
BACKOFF_MAX = 30.0
"""An engine that comes back is noticed within this."""
LOOK = 5.0
"""Seconds in which a sandbox that died while idle is noticed: looking costs no round trip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """A pool at one moment, and what it has done since it was opened.

    `ready` sandboxes wait for takers, `making` are under way, `waiting` takers wait.
    `made`, `taken` and `failed` count; `replaced` counts those that died or grew too
    old before anybody took them.
    """

    size: int
    ready: int
    making: int
    waiting: int
    made: int
    taken: int
    replaced: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """An unused sandbox, ready since `since` (monotonic seconds)."""

    sandbox: Sandbox
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What has to be done now: pairs to join, takers to refuse, sandboxes to take down, how many
    to make."""

    handed: list[tuple[asyncio.Future[Idle], Idle]]
    refused: list[asyncio.Future[Idle]]
    unfit: list[Sandbox]
    make: int


@dataclass(slots=True, kw_only=True)
class PoolState:
    """Who waits, what is ready, what is being made. No I/O; times are monotonic seconds.

    While the recipe fails, one attempt is made at a time, later and later. Takers that
    no attempt can serve are refused with the last `failure`.
    """

    size: int
    concurrency: int
    max_age: float | None = None

    idle: deque[Idle] = field(default_factory=deque)
    waiting: deque[asyncio.Future[Idle]] = field(default_factory=deque)
    making: int = 0
    made: int = 0
    taken: int = 0
    replaced: int = 0
    failed: int = 0

    failure: Exception | None = None
    _rounds: int = 0
    _not_before: float = 0.0

    @property
    def hopeless(self) -> bool:
        """The last attempt failed, and none is under way."""
        return self.failure is not None and not self.making

    def on_made(self, sandbox: Sandbox, now: float) -> None:
        self.making -= 1
        self.made += 1
        self.failure = None
        self._rounds = 0
        self._not_before = now
        self.idle.append(Idle(sandbox=sandbox, since=now))

    def on_failed(self, error: Exception, *, started: float, now: float) -> None:
        self.making -= 1
        self.failed += 1
        self.failure = error
        if started >= self._not_before:  # else it is of a round that has failed already
            self._not_before = now + min(BACKOFF * 2.0**self._rounds, BACKOFF_MAX)
            self._rounds = min(self._rounds + 1, 16)

    def on_returned(self, unseen: Idle) -> None:
        """Handed to a taker that was cancelled before it saw it."""
        self.taken -= 1
        self.idle.appendleft(unseen)

    def settle(self, now: float) -> Decision:
        """Decide what follows from all that has happened; the caller does it before it awaits."""
        unfit = self._take_out_unfit(now)
        handed = []
        self.waiting = deque(taker for taker in self.waiting if not taker.done())
        while self.waiting and self.idle:
            handed.append((self.waiting.popleft(), self.idle.popleft()))
        self.taken += len(handed)
        while len(self.idle) > self.size:  # made for a taker that did not wait for it
            unfit.append(self.idle.popleft().sandbox)
        make = self._to_make(now)
        self.making += make
        refused: list[asyncio.Future[Idle]] = []
        if self.hopeless:
            refused.extend(self.waiting)
            self.waiting.clear()
        return Decision(handed=handed, refused=refused, unfit=unfit, make=make)

    def _take_out_unfit(self, now: float) -> list[Sandbox]:
        unfit = [one for one in self.idle if one.sandbox.lost or self._expires(one) <= now]
        self.idle = deque(one for one in self.idle if one not in unfit)
        self.replaced += len(unfit)
        return [one.sandbox for one in unfit]

    def _expires(self, one: Idle) -> float:
        return float("inf") if self.max_age is None else one.since + self.max_age

    def _to_make(self, now: float) -> int:
        if now < self._not_before:
            return 0
        missing = self.size + len(self.waiting) - len(self.idle) - self.making
        room = (1 if self.failure else self.concurrency) - self.making
        return max(0, min(missing, room))

    def look_again(self, now: float) -> float:
        """Seconds after which time alone may have changed what is to be done."""
        moments = [now + LOOK, self._not_before, *(self._expires(one) for one in self.idle)]
        return min(moment for moment in moments if moment > now) - now


class SandboxPool(AsyncResource):
    """Keeps `size` unused sandboxes ready. Made by `Backend.pool`; used as ``async with``.

    Entering returns at once and the making begins; `wait_ready` waits for it. Every
    method may be called by many tasks at once. Closing takes down what is ready or being made;
    what was taken belongs to its takers, and those that still wait get `SandboxClosed`. An
    `ExceptionGroup` reports sandboxes that could not be taken down, whenever that was; those
    end by their lease.
    """

    def __init__(
        self,
        create: Callable[[], Coroutine[Any, Any, Sandbox]],
        *,
        size: int,
        concurrency: int = 4,
        max_age: float | None = None,
    ) -> None:
        if size < 1 or concurrency < 1:
            raise ConfigError("size and concurrency: give at least 1")
        if max_age is not None and max_age <= 0:
            raise ConfigError("max_age: give a number of seconds above 0")
        self._create = create
        self._state = PoolState(size=size, concurrency=concurrency, max_age=max_age)
        self._changed = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._running = False
        self._keeper: asyncio.Task[None] | None = None
        self._left: list[BaseException] = []

    async def acquire(self) -> Sandbox:
        """Return an unused sandbox; the caller owns it and has to `aclose()` it.

        Takes one that is ready without waiting; else waits, first come first served, for
        the next one that is made. While the recipe fails and none is ready, what it
        failed with is raised (see `Backend.create`). Raises `SandboxClosed` when the pool
        is not open or is closed meanwhile. A cancelled taker leaves its place, and what
        it was given unseen goes to the next.
        """
        self._check_open()
        taker: asyncio.Future[Idle] = asyncio.get_running_loop().create_future()
        self._state.waiting.append(taker)
        self._settle()
        if taker.done():
            return taker.result().sandbox
        try:
            return (await taker).sandbox
        except asyncio.CancelledError:
            if not taker.cancelled() and taker.exception() is None:
                # A close that has begun finds it there: it looks after the keeper has ended,
                # which takes the loop longer than this task to be woken.
                self._state.on_returned(taker.result())
            self._settle()
            raise

    @contextlib.asynccontextmanager
    async def sandbox(self) -> AsyncIterator[Sandbox]:
        """A sandbox from the pool, taken down at the end of the block; see `acquire`."""
        sandbox = await self.acquire()
        try:
            yield sandbox
        finally:
            await sandbox.aclose()

    async def wait_ready(self) -> None:
        """Wait until `size` sandboxes are ready at the same time.

        Raises what the recipe failed with, and `SandboxClosed` when the pool is closed.
        """
        self._check_open()
        while len(self._state.idle) < self._state.size:
            if self._state.hopeless and self._state.failure is not None:
                raise self._state.failure
            await self._changed.wait()
            self._check_open()

    def stats(self) -> PoolStats:
        """Counts, without asking any sandbox."""
        state = self._state
        return PoolStats(
            size=state.size,
            ready=sum(not one.sandbox.lost for one in state.idle),
            making=state.making,
            waiting=sum(not taker.done() for taker in state.waiting),
            made=state.made,
            taken=state.taken,
            replaced=state.replaced,
            failed=state.failed,
        )

    async def __aenter__(self) -> Self:
        if self._keeper is not None:
            raise SandboxClosed("a pool is opened once")
        self._keeper = asyncio.create_task(self._keep())
        return self

    def _check_open(self) -> None:
        if self._keeper is None or self.closed:
            raise SandboxClosed("the pool is not open")

    async def _keep(self) -> None:
        """Own the makers, and decide again when time alone has changed something."""
        async with self._tasks:
            self._running = True
            try:
                while True:
                    self._settle()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._state.look_again(time.monotonic())):
                            await self._changed.wait()
            finally:
                self._running = False

    def _settle(self) -> None:
        if self.closed or not self._running:
            return
        decision = self._state.settle(time.monotonic())
        for taker, one in decision.handed:
            taker.set_result(one)
        for taker in decision.refused:
            assert self._state.failure is not None
            taker.set_exception(self._state.failure)
        for sandbox in decision.unfit:
            self._tasks.create_task(self._take_down(sandbox))
        for _ in range(decision.make):
            self._tasks.create_task(self._make())
        self._changed.set()  # wakes the present waiters; later ones wait for the next
        self._changed.clear()

    async def _make(self) -> None:
        started = time.monotonic()
        try:
            sandbox = await self._create()
        except Exception as error:
            self._state.on_failed(error, started=started, now=time.monotonic())
        else:
            self._state.on_made(sandbox, time.monotonic())
        self._settle()

    async def _take_down(self, sandbox: Sandbox) -> None:
        was_lost = sandbox.lost
        try:
            await sandbox.aclose()
        except Exception as error:
            if not was_lost:  # else there is nothing left that could run
                self._left.append(error)

    async def _close(self) -> None:
        for taker in self._state.waiting:
            if not taker.done():
                taker.set_exception(SandboxClosed("the pool was closed"))
        self._changed.set()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
            if not self._keeper.cancelled() and (defect := self._keeper.exception()):
                self._left.append(defect)
        await asyncio.gather(*(self._take_down(one.sandbox) for one in self._state.idle))
        self._state.idle.clear()
        if self._left:
            raise BaseExceptionGroup("sandboxes of a pool could not be taken down", self._left)
