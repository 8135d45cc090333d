"""The base of processes whose output arrives by itself, and is kept until it is read."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Protocol

from paddock._concurrency import Signal
from paddock.errors import CommandLost, SandboxClosed, SandboxLost
from paddock.process import ExecResult, Output, Process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.process import Stream

__all__ = ["BufferedProcess", "captured"]

PIECE = 64 * 1024
"""Bytes up to which pieces of one stream are joined, so that small ones cost no object each."""


class BufferedProcess(Process):
    """A process that reads its own output.

    Subclasses pass output to `_buffer`, set `_result`, and set `_changed` after either.
    """

    def __init__(self, *, streamed: bool) -> None:
        self._unread: deque[tuple[Stream, bytes | bytearray]] = deque()
        self._reader: asyncio.Task[object] | None = None
        """The task that last asked `output()` for more, until that iterator has ended."""
        self._discarding = not streamed
        self._changed = Signal()
        self._result: asyncio.Future[ExecResult] = asyncio.get_running_loop().create_future()
        self._result.add_done_callback(_retrieve)

    @abstractmethod
    def _taken(self, size: int) -> None:
        """`size` bytes were read or dropped: there is room for that many more."""

    def _buffer(self, stream: Stream, data: bytes) -> None:
        """Keep output for the reader; drop it if it will not be read."""
        if self._discarding:
            self._taken(len(data))
            return
        last = self._unread[-1] if self._unread else None
        if len(data) >= PIECE:
            self._unread.append((stream, data))
        elif last and last[0] == stream and isinstance(last[1], bytearray) and len(last[1]) < PIECE:
            last[1].extend(data)
        else:
            self._unread.append((stream, bytearray(data)))

    def _discard(self) -> None:
        self._discarding = True
        size = sum(len(data) for _, data in self._unread)
        self._unread.clear()
        self._taken(size)

    async def output(self) -> AsyncIterator[tuple[Stream, bytes]]:
        try:
            while True:
                self._reader = asyncio.current_task()
                while self._unread:
                    stream, data = self._unread.popleft()
                    yield stream, bytes(data)
                    self._taken(len(data))
                    self._reader = asyncio.current_task()
                if self._result.done():
                    self._raise_if_lost()
                    return
                self._changed.clear()
                await self._changed.wait()
        finally:
            self._reader = None
            self._changed.set()

    def _raise_if_lost(self) -> None:
        error = self._result.exception()
        if isinstance(error, SandboxLost | SandboxClosed | CommandLost):
            raise error

    async def wait(self) -> ExecResult:
        # A task that reads may be slow. This one cannot read while it waits here, so what it
        # has not read must not hold up the command.
        while self._is_read_elsewhere() and not self._result.done():
            self._changed.clear()
            await self._changed.wait()
        if not self._is_read_elsewhere() and not self._discarding:
            self._discard()
        while not self._result.done():
            self._changed.clear()
            await self._changed.wait()
        return self._result.result()

    def _is_read_elsewhere(self) -> bool:
        # Most commands have no reader, and asking for the current task takes a while.
        return self._reader is not None and self._reader is not asyncio.current_task()


class Kept(Protocol):
    """Head and tail of a stream, and how many bytes between them were dropped."""

    @property
    def head(self) -> bytearray: ...

    @property
    def tail(self) -> bytearray: ...

    @property
    def dropped(self) -> int: ...


def captured(capture: Kept) -> Output:
    """Return what was kept of a stream on this side."""
    return Output(head=bytes(capture.head), tail=bytes(capture.tail), dropped=capture.dropped)


def _retrieve(future: asyncio.Future[ExecResult]) -> None:
    """Mark the exception as seen: an owner that only closes a process asks for no result."""
    if not future.cancelled():
        future.exception()
