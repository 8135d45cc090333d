"""What processes have in common whose output comes by itself: it waits to be read."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from typing import TYPE_CHECKING

from paddock.errors import SandboxLost
from paddock.sandbox import ExecResult, Output, Process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.backends.guest.inside.wire import Capture
    from paddock.sandbox import Stream

__all__ = ["BufferedProcess", "captured"]


class BufferedProcess(Process):
    """Subclasses fill `_unread` unless they are `_discarding`, end with `_result`, and set
    `_changed` after either."""

    def __init__(self, *, streamed: bool) -> None:
        self._unread: deque[tuple[Stream, bytes]] = deque()
        self._reading = False
        self._discarding = not streamed
        self._changed = asyncio.Event()
        self._result: asyncio.Future[ExecResult] = asyncio.get_running_loop().create_future()
        self._result.add_done_callback(_retrieve)

    @abstractmethod
    def _taken(self, size: int) -> None:
        """So many bytes were read, or thrown away: there is room for more."""

    def _discard(self) -> None:
        self._discarding = True
        size = sum(len(data) for _, data in self._unread)
        self._unread.clear()
        self._taken(size)

    async def output(self) -> AsyncIterator[tuple[Stream, bytes]]:
        self._reading = True
        try:
            while True:
                while self._unread:
                    stream, data = self._unread.popleft()
                    yield stream, data
                    self._taken(len(data))
                if self._result.done():
                    error = self._result.exception()
                    if isinstance(error, SandboxLost):
                        raise SandboxLost(error.reason)
                    return
                self._changed.clear()
                await self._changed.wait()
        finally:
            self._reading = False

    async def wait(self) -> ExecResult:
        if not self._reading and not self._discarding:
            self._discard()
        await asyncio.wait([self._result])
        return self._result.result()


def captured(capture: Capture) -> Output:
    """What has been kept of a stream on this side."""
    return Output(head=bytes(capture.head), tail=bytes(capture.tail), dropped=capture.dropped)


def _retrieve(future: asyncio.Future[ExecResult]) -> None:
    """Mark the exception as seen: an owner that only closes a process asks for no result."""
    if not future.cancelled():
        future.exception()
