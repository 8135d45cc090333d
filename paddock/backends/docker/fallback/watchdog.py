"""The host's end of a container's first process: beats go down, answers come back.

Everything that is asked of it is answered in order. It does not know what a command is.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING

from paddock.backends.docker.fallback.inside import WATCHDOG_READY
from paddock.backends.guest.link import Link
from paddock.backends.guest.writer import SharedWriter
from paddock.backends.posix import table
from paddock.backends.posix.inside import Inside

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Watchdog"]

ANSWER_MAX = 16 * 1024 * 1024
"""Bytes of one answer; ten thousand processes fit in it."""
LINES_MAX = ANSWER_MAX // 100


class Watchdog(asyncio.Protocol):
    """One first process, and the `Heart` of its sandbox. Used by many tasks at once."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._writer: SharedWriter | None = None
        self._buffer = bytearray()
        self._lines: list[str] = []
        self._asking = threading.Lock()
        """Held while a question is sent, so that answers come in the order of `_asked`."""
        self._asked: deque[asyncio.Future[list[str]] | None] = deque()
        """Who waits for the answers to come, oldest first; None for a heartbeat."""
        self.ready: asyncio.Future[Inside | None] = self._loop.create_future()
        """Done when it was first heard; with None if it ended before."""
        self.link = Link()
        self.link.when_over(self._on_over)
        self.connected = True

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._writer = SharedWriter(transport, self._loop)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > ANSWER_MAX:
            self.link.fail("protocol violation: its first process says more than it was asked")
        elif not self.ready.done():
            if self._buffer.endswith(WATCHDOG_READY):
                self.ready.set_result(Inside.parse(bytes(self._buffer)))
                self._buffer.clear()
        else:
            *lines, rest = bytes(self._buffer).split(b"\n")
            self._buffer[:] = rest
            for line in lines:
                self._on_line(line)

    def _on_line(self, line: bytes) -> None:
        if not self._asked or len(self._lines) > LINES_MAX:
            self.link.fail("protocol violation: its first process says more than it was asked")
        elif line != b".":
            self._lines.append(line.decode(errors="surrogateescape"))
        else:
            lines, self._lines = self._lines, []
            answer = self._asked.popleft()
            if answer is None:
                self.link.on_beat_answered()
            elif not answer.done():
                answer.set_result(lines)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._writer is not None:
            self._writer.close()
        if not self.ready.done():
            self.ready.set_result(None)
        self.connected = False
        self.link.break_off()

    # heartbeats

    def beat(self) -> None:
        if self.link.begin_beat():
            self._send("beat", None)

    # questions

    def _on_over(self) -> None:
        if self._transport is not None and self._writer is not None:
            self._writer.close()
            self._transport.abort()
        for answer in self._asked:
            if answer is not None and not answer.done():
                answer.set_exception(self.link.error())
        self._asked.clear()

    def _send(self, line: str, answer: asyncio.Future[list[str]] | None) -> None:
        """Ask a question, in whatever thread."""
        assert self._writer is not None, "not connected"
        with self._asking:
            self._asked.append(answer)
            self._writer.write_from_thread(line.encode() + b"\n")

    async def _ask(self, line: str) -> list[str]:
        self.link.raise_if_over()
        answer: asyncio.Future[list[str]] = self._loop.create_future()
        self._send(line, answer)
        return await answer

    async def scan(self) -> list[table.Entry]:
        """All processes, as they are now."""
        return table.parse(await self._ask("scan"))

    async def signal(self, number: int, pids: Iterable[int]) -> None:
        """Send a signal to processes, or to groups by their negative numbers; to those that
        are still there."""
        await self._ask(f"kill {number} {' '.join(map(str, pids))}")
