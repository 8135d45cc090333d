"""Which task is next, and on which node: those of the ledger in their order, and those that were
given back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from paddock.runtime.fleet.faults import BatchGaveUp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from paddock.runtime.fleet.admission import Admission
    from paddock.runtime.fleet.nodes import Nodes, NodeState
    from paddock.runtime.fleet.ordering import Ordering
    from paddock.runtime.fleet.tasks import Task

__all__ = ["Taken", "TaskQueue"]

PAGE = 256
"""Tasks that are read from the ledger at a time: a batch of any length takes little memory."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Lane:
    """The tasks of one capped group, or all others: those that were read of them."""

    name: str
    cap: int | None
    page: deque[tuple[int, Task]] = field(default_factory=deque)
    read_to: int = 0
    at_end: bool = False
    running: int = 0

    @property
    def is_full(self) -> bool:
        return self.cap is not None and self.running >= self.cap


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Taken:
    """A task that may begin on a node. `image` is the one that it asks for."""

    task: Task
    node: NodeState
    lane: _Lane
    image: str | None


class TaskQueue:
    """Gives each task to one worker. `read` is `Ledger.pending`.

    A task that was taken has to be `done` or `put_back`. Tasks in quarantine come last, each
    while no other runs.
    """

    def __init__(
        self,
        read: Callable[[str, int, int], Awaitable[list[tuple[int, Task]]]],
        ordering: Ordering,
        nodes: Nodes,
        models: Admission,
    ) -> None:
        self._read = read
        self._ordering = ordering
        self._nodes = nodes
        self._models = models
        caps: Mapping[str, int | None] = {"": None, **ordering.caps}
        self._lanes = [_Lane(name=name, cap=cap) for name, cap in caps.items()]
        self._again: deque[tuple[_Lane, Task]] = deque()
        self._quarantine: deque[tuple[_Lane, Task]] = deque()
        self._running: set[str] = set()
        self._alone: str | None = None
        self.throttled: str | None = None
        """Why no further task begins, though one waits and a worker is free."""
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()

    def is_alone(self, key: str) -> bool:
        """Return whether the task runs in quarantine."""
        return self._alone == key

    async def take(self) -> Taken | None:
        """Return the next task once one may begin; None when there are no more.

        Raise `BatchGaveUp` if there has been no node for too long.
        """
        async with self._lock:
            while True:
                self._changed.clear()
                await self._fill()
                if not (self._waits() or self._quarantine or self._running):
                    return None
                now = time.monotonic()
                if not self._nodes.states and (why := self._nodes.hopeless(now)):
                    raise BatchGaveUp(why)
                self.throttled = self._throttled()
                if (taken := self._begin(now)) is not None:
                    return taken
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._delay(now)):
                        await self._changed.wait()

    def made(self, taken: Taken, seconds: float) -> None:
        """The sandbox of the task is ready."""
        taken.node.starts.made(taken.task.key, seconds)
        if taken.image is not None:
            taken.node.images.add(taken.image)
        self._changed.set()

    def done(self, taken: Taken) -> None:
        """The task is finished."""
        key = taken.task.key
        self._running.discard(key)
        taken.lane.running -= 1
        taken.node.end(key)
        if self._alone == key:
            self._alone = None
        self._changed.set()

    def put_back(self, taken: Taken, *, quarantined: bool = False) -> None:
        """The task is to begin again: soon, or at the end by itself."""
        (self._quarantine if quarantined else self._again).append((taken.lane, taken.task))
        self.done(taken)

    def look_again(self) -> None:
        """What limits or admission say may have changed."""
        self._changed.set()

    def _waits(self) -> bool:
        return bool(self._again) or any(lane.page for lane in self._lanes)

    def _throttled(self) -> str | None:
        """Return which limit holds back tasks that wait."""
        if not self._waits():
            return None
        ready = [lane for lane in self._lanes if lane.page] + [lane for lane, _ in self._again]
        if all(lane.is_full for lane in ready):
            full = ", ".join(sorted({f"{lane.name} ({lane.cap})" for lane in ready}))
            return f"groups at their caps: {full}"
        return self._nodes.reason()

    def _delay(self, now: float) -> float | None:
        if self._alone is not None:
            return None
        return self._models.wait(now) or self._nodes.delay(now)

    def _begin(self, now: float) -> Taken | None:
        """Give out the next task, if one may begin on some node now."""
        if self._alone is not None or self._models.wait(now) != 0:
            return None
        where = self._nodes.choose(None, now)
        found = None if where is None else self._next(suspicious=where.admission.suspicious)
        if where is None or found is None:
            return None
        lane, task = found
        image = self._ordering.image_of(task)
        where = where if image is None else self._nodes.choose(image, now) or where
        lane.running += 1
        self._running.add(task.key)
        self._models.admit()
        where.begin(task.key)
        return Taken(task=task, node=where, lane=lane, image=image)

    def _next(self, *, suspicious: bool) -> tuple[_Lane, Task] | None:
        fresh = [lane for lane in self._lanes if lane.page and not lane.is_full]
        again = next((each for each in self._again if not each[0].is_full), None)
        if again is not None and not (fresh and (suspicious or self._models.suspicious)):
            self._again.remove(again)
            return again
        if fresh:  # another task tells whether it was the last one's fault
            lane = min(fresh, key=lambda lane: lane.page[0][0])
            return lane, lane.page.popleft()[1]
        if self._running or not self._quarantine or self._waits():
            return None
        lane, task = self._quarantine.popleft()
        self._alone = task.key
        return lane, task

    async def _fill(self) -> None:
        for lane in self._lanes:
            if lane.page or lane.at_end:
                continue
            found = await self._read(lane.name, lane.read_to, PAGE)
            lane.page.extend(found)
            lane.at_end = not found
            if found:
                lane.read_to = found[-1][0]
