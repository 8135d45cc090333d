"""A server that says what a recorded one said."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from websockets.asyncio.server import ServerConnection

__all__ = ["Player", "playing"]


class Player:
    """Plays the connections of a recording, one after the other."""

    def __init__(self, lines: list[dict[str, Any]]) -> None:
        self._lines = lines
        self._connections = iter(sorted({line["conn"] for line in lines if "conn" in line}))
        self.url = ""
        self.received: list[dict[str, Any]] = []
        self.awaits_cancel = asyncio.Event()
        """Set when the recorded client cancelled next."""

    async def serve(self, socket: ServerConnection) -> None:
        number = next(self._connections)
        mine = [line for line in self._lines if line.get("conn") == number]
        with contextlib.suppress(ConnectionClosed):
            for line in mine:
                match line["dir"]:
                    case "s2c":
                        await socket.send(json.dumps(line["frame"]))
                    case "c2s":
                        if line["frame"]["message_type"] == "cancel_message":
                            self.awaits_cancel.set()
                        await self._receive(socket, line["frame"]["message_type"])
                    case "close" if line["by"] == "server":
                        break
                    case "close":
                        await self._until_left(socket)
            if not self._is_left_by_client(mine):
                await socket.close(1000)

    @staticmethod
    def _is_left_by_client(mine: list[dict[str, Any]]) -> bool:
        closes = [line["by"] for line in mine if line["dir"] == "close"]
        return closes[:1] == ["client"]

    async def _receive(self, socket: ServerConnection, kind: str) -> None:
        while True:
            frame = json.loads(await socket.recv())
            self.received.append(frame)
            if frame["message_type"] == kind:
                return

    async def _until_left(self, socket: ServerConnection) -> None:
        """Answer a cancellation as servers do, which the recorded client did not send."""
        async for text in socket:
            frame = json.loads(text)
            self.received.append(frame)
            if frame["message_type"] == "cancel_message":
                cancelled = {"error": "Request cancelled", "metadata": {}}
                await socket.send(json.dumps({"message_type": "error_message", **cancelled}))


@contextlib.asynccontextmanager
async def playing(lines: list[dict[str, Any]]) -> AsyncIterator[Player]:
    player = Player(lines)
    async with serve(player.serve, "127.0.0.1", 0) as server:
        player.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        yield player
