"""The processes of a sandbox in memory: tasks with numbers, pipes between them."""

from __future__ import annotations

import asyncio
import errno
import functools
import itertools
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from paddock._concurrency import Signal

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from typing import Any

__all__ = ["Job", "Pipe", "Sink", "Source", "Table", "empty"]

ROOM = 64 * 1024
"""Bytes in a pipe before its writer waits, as on Linux."""
SIGPIPE = 141


class Sink(Protocol):
    """Where a process writes."""

    async def write(self, data: bytes) -> None: ...


class Source(Protocol):
    """Where a process reads."""

    async def read(self) -> bytes:
        """Return what is there; wait for it; ``b""`` is the end."""

    def close(self) -> None: ...


class Pipe:
    """Bytes from one process to another."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._ended = False
        self._broken = False
        self._changed = Signal()

    async def write(self, data: bytes) -> None:
        """Write all; wait while the pipe is full. `BrokenPipeError` when the reader has gone."""
        while True:
            if self._broken or self._ended:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            room = ROOM - len(self._data)
            if room > 0:
                self._data += data[:room]
                data = data[room:]
                self._changed.set()
            if not data:
                return
            self._changed.clear()
            await self._changed.wait()

    async def read(self) -> bytes:
        while not self._data and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        found = bytes(self._data)
        self._data.clear()
        self._changed.set()
        return found

    def unread(self, data: bytes) -> None:
        """Put back what was read too much."""
        self._data[:0] = data

    def end(self) -> None:
        """Write no more."""
        self._ended = True
        self._changed.set()

    def close(self) -> None:
        """Read no more."""
        self._broken = True
        self._changed.set()


def empty() -> Pipe:
    """Return a pipe that has ended."""
    pipe = Pipe()
    pipe.end()
    return pipe


@dataclass(eq=False)
class Job:
    """A process. `group` tells apart the commands that the host has started."""

    pid: int
    group: object
    words: Sequence[str]
    ended: asyncio.Future[int] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    task: asyncio.Task[int] | None = None
    signal: int = 0

    def kill(self, number: int) -> None:
        """End the process by a signal."""
        self.signal = self.signal or number
        if self.task is not None:
            self.task.cancel()

    async def wait(self) -> int:
        """Return the exit code. A cancelled caller leaves the process alone."""
        return await asyncio.shield(self.ended)


class Table:
    """The processes that run."""

    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        self._numbers = itertools.count(2)

    def add(self, group: object, words: Sequence[str]) -> Job:
        """Return a process that is still to be given something to do."""
        job = Job(next(self._numbers), group, tuple(words))
        self.jobs[job.pid] = job
        return job

    def run(self, job: Job, main: Coroutine[Any, Any, int]) -> None:
        """Let the process do `main`."""
        job.task = asyncio.create_task(main)
        # Not in the task: one that is cancelled before it begins does nothing at all.
        job.task.add_done_callback(functools.partial(self._end, job))

    def _end(self, job: Job, task: asyncio.Task[int]) -> None:
        del self.jobs[job.pid]
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            job.ended.set_result(128 + (job.signal or 9))
        elif isinstance(error, BrokenPipeError):
            job.ended.set_result(SIGPIPE)
        elif error is not None:
            job.ended.set_exception(error)
            job.ended.exception()  # retrieved, though no task may wait
        else:
            job.ended.set_result(task.result())

    def of(self, group: object) -> list[Job]:
        """Return the processes of a command."""
        return [job for job in self.jobs.values() if job.group is group]

    async def end(self, jobs: Sequence[Job], number: int) -> None:
        """Kill processes, and return when they are gone."""
        for job in jobs:
            job.kill(number)
        if jobs:
            await asyncio.wait([job.ended for job in jobs])
