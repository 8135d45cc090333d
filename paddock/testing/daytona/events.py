"""Daytona's events over Socket.IO: how they are sent, not why."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

import socketio  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["Events"]


class Events:
    """Tells every client that showed the right token, in order."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._queue: asyncio.Queue[tuple[str, dict[str, Any]] | None] = asyncio.Queue()
        self._pump: asyncio.Task[None] | None = None
        self._server = socketio.AsyncServer(
            async_mode="aiohttp",
            # Its monitor can only be ended by an exception of its own; clients here are tests,
            # whose connections end with them.
            monitor_clients=False,
        )
        self._server.on("connect", self._connect)

    def attach(self, app: web.Application, path: str) -> None:
        """Serve the events of `app` at `path`."""
        self._server.attach(app, socketio_path=path)

    def tell(self, event: str, content: dict[str, Any]) -> None:
        """Send `event` to everybody, soon; does not wait."""
        self._queue.put_nowait((event, content))

    async def __aenter__(self) -> Self:
        self._pump = asyncio.create_task(self._send())
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._queue.put_nowait(None)
        if self._pump is not None:
            await self._pump
        for client in list(self._server.manager.get_participants("/", None)):
            await self._server.disconnect(client[0])
        await self._server.shutdown()

    async def _send(self) -> None:
        while (item := await self._queue.get()) is not None:
            await self._server.emit(*item)

    async def _connect(self, client: str, environ: dict[str, Any], auth: object) -> bool:
        return isinstance(auth, dict) and auth.get("token") == self._token
