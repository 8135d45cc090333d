"""Which task is next: those of the ledger in their order, and those that were given back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING

from paddock.runtime.fleet.limits import StartLimit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paddock.runtime.fleet.admission import Admission
    from paddock.runtime.fleet.limits import MemoryLimit
    from paddock.runtime.fleet.tasks import Task

__all__ = ["TaskQueue"]

PAGE = 256
"""Tasks that are read from the ledger at a time: a batch of any length takes little memory."""


class TaskQueue:
    """Gives each task to one worker. `read` is `Ledger.pending`.

    A task that was taken has to be `done` or `put_back`. Tasks in quarantine come last, each
    while no other runs.
    """

    def __init__(
        self,
        read: Callable[[int, int], Awaitable[list[tuple[int, Task]]]],
        admission: Admission,
        memory: MemoryLimit,
    ) -> None:
        self._read = read
        self._admission = admission
        self._memory = memory
        self.starts = StartLimit()
        self._page: deque[tuple[int, Task]] = deque()
        self._read_to = 0
        self._at_end = False
        self._again: deque[Task] = deque()
        self._quarantine: deque[Task] = deque()
        self._running: set[str] = set()
        self._alone: str | None = None
        self.throttled: str | None = None
        """Why no further task begins, though one waits and a worker is free."""
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def running(self) -> int:
        return len(self._running)

    def is_alone(self, key: str) -> bool:
        """Return whether the task runs in quarantine."""
        return self._alone == key

    async def take(self) -> Task | None:
        """Return the next task once one may begin; None when there are no more."""
        async with self._lock:
            while True:
                self._changed.clear()
                await self._fill()
                if not (self._page or self._again or self._quarantine or self._running):
                    return None
                delay = self._delay()
                self.throttled = self._throttled()
                if delay == 0 and not self.throttled and (task := self._next()) is not None:
                    self._admission.admit()
                    self._running.add(task.key)
                    self.starts.begin(task.key)
                    return task
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay or None):
                        await self._changed.wait()

    def made(self, task: Task, seconds: float) -> None:
        """The sandbox of the task is ready."""
        self.starts.made(task.key, seconds)
        self._changed.set()

    def done(self, task: Task) -> None:
        """The task is finished."""
        self._running.discard(task.key)
        self.starts.ended(task.key)
        if self._alone == task.key:
            self._alone = None
        self._changed.set()

    def put_back(self, task: Task, *, quarantined: bool = False) -> None:
        """The task is to begin again: soon, or at the end by itself."""
        (self._quarantine if quarantined else self._again).append(task)
        self.done(task)

    def look_again(self) -> None:
        """What admission says may have changed."""
        self._changed.set()

    def _throttled(self) -> str | None:
        """Return which limit holds back tasks that wait."""
        if not (self._page or self._again):
            return None
        return self.starts.reason() or self._memory.reason(self.running)

    def _delay(self) -> float | None:
        if self._alone is not None:
            return None
        return self._admission.wait(time.monotonic())

    def _next(self) -> Task | None:
        if self._again and not (self._page and self._admission.suspicious):
            return self._again.popleft()
        if self._page:  # another task tells whether it was the last one's fault
            return self._page.popleft()[1]
        if self._running or not self._quarantine:
            return None
        task = self._quarantine.popleft()
        self._alone = task.key
        return task

    async def _fill(self) -> None:
        if self._page or self._at_end:
            return
        found = await self._read(self._read_to, PAGE)
        self._page.extend(found)
        self._at_end = not found
        if found:
            self._read_to = found[-1][0]
