"""Servers of a sandbox in memory: functions that talk to a connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Handler", "Ports"]

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Serves one connection."""


class Ports:
    """The addresses of a sandbox's ports, on this machine. A port without a handler hangs up."""

    def __init__(self, handlers: Mapping[int, Handler]) -> None:
        self._handlers = handlers
        self._servers: dict[int, asyncio.Server] = {}
        self._serving: set[asyncio.Task[None]] = set()

    async def url(self, port: int) -> str:
        """Return the address of a port, always the same."""
        if port not in self._servers:
            handler = self._handlers.get(port, _hang_up)

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                task = asyncio.current_task()
                assert task is not None
                self._serving.add(task)
                try:
                    await handler(reader, writer)
                finally:
                    self._serving.discard(task)
                    writer.close()

            self._servers[port] = await asyncio.start_server(serve, "127.0.0.1", 0)
        number = self._servers[port].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{number}"

    def close(self) -> None:
        """Close all addresses and their connections."""
        for server in self._servers.values():
            server.close()
        self._servers.clear()
        for task in self._serving:
            task.cancel()

    async def aclose(self) -> None:
        """Close them, and return when the handlers have ended."""
        self.close()
        if self._serving:
            await asyncio.wait([*self._serving])


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        writer.transport.abort()
