"""The host's end of a control shell: it lists the processes of a sandbox and signals them.

Its answers come in the order of the questions. It does not know what a command is. No I/O.
"""

from __future__ import annotations

import asyncio
import math
import threading
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING

from paddock.backends.posix import table
from paddock.backends.posix.inside import READY, Inside

if TYPE_CHECKING:
    from collections.abc import Iterable

    from paddock.backends.guest.link import Link

__all__ = ["ControlShell"]

ANSWER_MAX = 16 * 1024 * 1024
"""Bytes of one answer; ten thousand processes fit in it."""
LINES_MAX = ANSWER_MAX // 100
TOO_MUCH = "protocol violation: its control shell says more than it was asked"


class ControlShell(ABC):
    """Used by many tasks at once. Subclasses carry its lines."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.ready: asyncio.Future[Inside | None] = asyncio.get_running_loop().create_future()
        """Done with its first words; with None if it ended before."""
        self._buffer = bytearray()
        self._lines: list[str] = []
        self._asking = threading.Lock()
        """Held while a question is sent, so that answers come in the order of `_asked`."""
        self._asked: deque[asyncio.Future[list[str]] | None] = deque()
        """Who waits for the answers to come, oldest first; None for a heartbeat."""
        self._ended = False

    @abstractmethod
    def _write(self, data: bytes) -> None:
        """Send `data` to it, from any thread; never blocks."""

    def feed(self, data: bytes) -> None:
        """Take what it printed."""
        self._buffer += data
        if len(self._buffer) > ANSWER_MAX:
            self.link.fail(TOO_MUCH)
        elif not self.ready.done():
            if self._buffer.endswith(READY):
                self.ready.set_result(Inside.parse(bytes(self._buffer)))
                self._buffer.clear()
        else:
            *lines, rest = bytes(self._buffer).split(b"\n")
            self._buffer[:] = rest
            for line in lines:
                self._on_line(line)

    def _on_line(self, line: bytes) -> None:
        if not self._asked or len(self._lines) > LINES_MAX:
            self.link.fail(TOO_MUCH)
        elif line != b".":
            self._lines.append(line.decode(errors="surrogateescape"))
        else:
            lines, self._lines = self._lines, []
            answer = self._asked.popleft()
            if answer is None:
                self.link.on_beat_answered()
            elif not answer.done():
                answer.set_result(lines)

    def end(self) -> None:
        """No more requests; the state of the link, which is final, says why."""
        self._ended = True
        if not self.ready.done():
            self.ready.set_result(None)
        for answer in self._asked:
            if answer is not None and not answer.done():
                answer.set_exception(self.link.error())
        self._asked.clear()

    def _send(self, line: str, answer: asyncio.Future[list[str]] | None) -> None:
        """Ask a question, in any thread."""
        with self._asking:
            self._asked.append(answer)
            self._write(line.encode() + b"\n")

    async def _ask(self, line: str) -> list[str]:
        if self._ended:
            raise self.link.error()
        answer: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._send(line, answer)
        return await answer

    async def scan(self) -> list[table.Entry]:
        """Return all processes, as they are now."""
        return table.parse(await self._ask("scan"))

    async def end_after(self, seconds: float) -> None:
        """Have the control shell killed after so many whole seconds, whatever was said before."""
        await self._ask(f"lifetime {math.ceil(seconds)}")

    async def signal(self, number: int, pids: Iterable[int]) -> None:
        """Send a signal to processes, or to groups by their negative numbers; to those that
        are still there."""
        await self._ask(f"kill {number} {' '.join(map(str, pids))}")
