"""The host's end of a container's first process: beats go down, answers come back.

Everything that is asked of it is answered in order. It does not know what a command is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paddock.backends.docker.fallback import table
from paddock.backends.docker.fallback.inside import WATCHDOG_READY
from paddock.errors import SandboxLost

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Inside", "Watchdog"]

ANSWER_MAX = 16 * 1024 * 1024
"""Bytes of one answer; ten thousand processes fit in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """What is found in a container: its shell, its grep, and what the image and the engine
    put into every process's environment."""

    root: bool
    """Whether commands run as root unless told otherwise."""
    sh: str
    grep: str
    env: Mapping[str, str]

    @classmethod
    def parse(cls, told: bytes) -> Inside:
        uid, sh, grep, *pairs = told.decode(errors="surrogateescape").split("\0")
        env = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        # A shell that is its own tools may not say where they are.
        sh = sh if sh.startswith("/") else "/bin/sh"
        return cls(root=uid == "0", sh=sh, grep=grep or "grep", env=env)


class Watchdog(asyncio.Protocol):
    """One first process. All methods may be called by many tasks at once."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._lines: list[str] = []
        self._asked: deque[asyncio.Future[list[str]]] = deque()
        self.ready: asyncio.Future[Inside | None] = loop.create_future()
        """Done when it was first heard; with None if it ended before."""
        self.lost: asyncio.Future[SandboxLost] = loop.create_future()
        """Done when the container is gone, with what every later call raises."""
        self.disconnected = asyncio.Event()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self.ready.done():
            if self._buffer.endswith(WATCHDOG_READY):
                self.ready.set_result(Inside.parse(bytes(self._buffer)))
                self._buffer.clear()
            return
        *lines, rest = bytes(self._buffer).split(b"\n")
        self._buffer[:] = rest
        for line in lines:
            self._on_line(line)
        if len(self._buffer) > ANSWER_MAX or len(self._lines) > ANSWER_MAX // 100:
            self.fail("its first process does not keep to the protocol")

    def _on_line(self, line: bytes) -> None:
        if line != b".":
            self._lines.append(line.decode(errors="surrogateescape"))
            return
        lines, self._lines = self._lines, []
        if self._asked:
            answer = self._asked.popleft()
            if not answer.done():
                answer.set_result(lines)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_result(None)
        self.disconnected.set()

    # our side

    def fail(self, reason: str) -> None:
        """Give the container up: everything that waits for it, or will, raises `SandboxLost`."""
        if self.lost.done():
            return
        self.lost.set_result(SandboxLost(reason))
        if self._transport is not None:
            self._transport.abort()
        for answer in self._asked:
            if not answer.done():
                answer.set_exception(SandboxLost(reason))
        self._asked.clear()

    def close(self) -> None:
        """End the stream, at which the first process ends and with it all others."""
        if self._transport is not None:
            self._transport.close()

    async def _ask(self, line: str) -> list[str]:
        if self.lost.done():
            raise SandboxLost(self.lost.result().reason)
        assert self._transport is not None, "not connected"
        answer: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        self._transport.write(line.encode() + b"\n")
        return await answer

    async def beat(self) -> None:
        """Renew the lease; returns when it is renewed."""
        await self._ask("beat")

    async def scan(self) -> list[table.Entry]:
        """All processes, as they are now."""
        return table.parse(await self._ask("scan"))

    async def signal(self, number: int, pids: Iterable[int]) -> None:
        """Send a signal to processes, or to groups by their negative numbers; to those that
        are still there."""
        await self._ask(f"kill {number} {' '.join(map(str, pids))}")
