"""Terminals: an interactive shell each, to which any number of clients are attached.

Knows nothing of HTTP; a client is a queue that gets what the shell writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from paddock._concurrency import finish
from paddock.testing.daytona.toolbox.pipes import Inlet, Outlet
from paddock.testing.daytona.toolbox.replies import wire_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from paddock.testing.daytona.toolbox.processes import Command, Processes, Running

__all__ = ["Client", "Exit", "Size", "Terminal"]

Client = asyncio.Queue[bytes | None]
"""Gets the output, and None once the shell has ended."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of a terminal, in characters."""

    cols: int = 80
    rows: int = 24


@dataclass(frozen=True, kw_only=True)
class Exit:
    """How the shell ended."""

    code: int
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        known: dict[str, Any] = {"exitCode": self.code}
        return {**known, "exitReason": self.reason} if self.reason else known


class Terminal:
    """A shell on a pseudo-terminal; `ended` is called when it has ended.

    `start` first, `close` last, also after its end.
    """

    def __init__(
        self,
        identity: str,
        command: Command,
        size: Size,
        processes: Processes,
        ended: Callable[[], None],
    ) -> None:
        self.id = identity
        self.exit: Exit | None = None
        self._command = command
        self._size = size
        self._processes = processes
        self._created = datetime.now(UTC)
        self._open = contextlib.AsyncExitStack()
        self._clients: set[Client] = set()
        self._shell: Running | None = None
        self._pumping: asyncio.Task[None] | None = None
        self._ended = ended
        self._master: int
        self._inlet: Inlet

    async def start(self) -> None:
        """Start the shell. Raises `SpawnFailed`; then, or cancelled, nothing stays open."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self.close)
            self._master, slave = os.openpty()
            try:
                self._open.callback(os.close, self._master)
                self._apply(self._size)
                outlet = await self._open.enter_async_context(Outlet(os.dup(self._master)))
                self._inlet = await self._open.enter_async_context(Inlet(os.dup(self._master)))
                self._shell = await self._processes.spawn(
                    self._command, stdin=slave, stdout=slave, stderr=slave
                )
            finally:
                os.close(slave)
            self._pumping = asyncio.ensure_future(self._pump(outlet, self._shell))
            stack.pop_all()

    @property
    def started(self) -> bool:
        return self._pumping is not None

    def attach(self) -> Client:
        """A client for what is written from now on; before `start`, for all of it."""
        client: Client = asyncio.Queue()
        self._clients.add(client)
        return client

    def detach(self, client: Client) -> None:
        self._clients.discard(client)

    async def write(self, data: bytes) -> None:
        await self._inlet.write(data)

    def resize(self, size: Size) -> None:
        self._size = size
        self._apply(size)

    def kill(self) -> None:
        """SIGKILL the shell and all below it; clients see an ordinary end."""
        if self._shell is not None:
            self._processes.kill(self._shell, tree=True)

    async def close(self) -> None:
        """Kill what runs and forget the clients. Finishes although it is cancelled."""
        await finish(self._close())

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "active": self.exit is None,
            "cols": self._size.cols,
            "rows": self._size.rows,
            "createdAt": wire_time(self._created),
            "cwd": str(self._command.cwd),
            "envs": dict(self._command.env),
            "lazyStart": False,
        }

    async def _close(self) -> None:
        self.kill()
        if self._pumping is not None:
            self._pumping.cancel()
            await asyncio.gather(self._pumping, return_exceptions=True)
        await self._open.aclose()

    async def _pump(self, outlet: Outlet, shell: Running) -> None:
        while data := await outlet.read():
            self._publish(data)
        status = await asyncio.shield(shell.ended)
        self.exit = _told(status)
        self._ended()
        self._publish(None)

    def _publish(self, data: bytes | None) -> None:
        for client in self._clients:
            client.put_nowait(data)

    def _apply(self, size: Size) -> None:
        packed = struct.pack("HHHH", size.rows, size.cols, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, packed)


def _told(status: int) -> Exit:
    if status < 0:
        return Exit(code=128 - status, reason=f"signal {-status}")
    return Exit(code=status)
