"""The server's end of an HTTP/1.1 connection, as far as a test server needs it.

Requests have a known length; answers are whole or chunked; connections are kept alive.
Knows nothing of what is asked or answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from dataclasses import dataclass
from typing import Any

__all__ = ["Connection", "HangUp", "Message"]

_MAX_BODY = 256 * 1024 * 1024  # bytes, far above any history; only a wrong length comes near it


class HangUp(Exception):
    """The server ends the connection, for the reason given."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """An HTTP request; `target` is the method and the path."""

    target: str
    headers: dict[str, str]
    body: bytes


class Connection:
    """One client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.client: tuple[str, int] = writer.get_extra_info("peername")

    async def read_request(self) -> Message | None:
        """The next request; None when the client has closed between two of them.

        Raises `HangUp` for what is not a request that this server takes, and
        `asyncio.IncompleteReadError` when the client closes in the middle of one.
        """
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            target, headers, length = _parse_head(head)
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            return None
        except (asyncio.LimitOverrunError, ValueError) as error:
            raise HangUp(f"not a request: {error}") from error
        body = await self._reader.readexactly(length)
        return Message(target=target, headers=headers, body=body)

    async def send(self, status: int, body: bytes, content_type: str, **headers: str) -> None:
        extra = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = (
            f"HTTP/1.1 {status} Scripted\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\n{extra}\r\n"
        )
        self._writer.write(head.encode("latin-1") + body)
        await self._writer.drain()

    async def send_json(self, status: int, content: dict[str, Any], **headers: str) -> None:
        await self.send(status, json.dumps(content).encode(), "application/json", **headers)

    async def begin_stream(self) -> None:
        self._writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        await self._writer.drain()

    async def send_chunk(self, data: bytes) -> None:
        self._writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self._writer.drain()

    async def end_stream(self) -> None:
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def hang(self) -> None:
        """Wait until the client goes away, and raise as reading does then."""
        await self._reader.readexactly(1)
        raise HangUp("a request came before the answer to the last one")

    async def pause(self, seconds: float) -> None:
        """Wait so long, and raise at once if the client goes away meanwhile."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.hang()

    def reset(self) -> None:
        """Close so that the client sees a reset, and raise."""
        linger = struct.pack("ii", 1, 0)  # on, for zero seconds: what makes the kernel send RST
        connection: socket.socket = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()
        raise HangUp("a reset was asked for")

    async def aclose(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


def _parse_head(head: bytes) -> tuple[str, dict[str, str], int]:
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ", 2)
    fields = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in fields}
    length = int(headers.get("content-length", "0"))
    if not 0 <= length <= _MAX_BODY:
        raise ValueError(f"a body of {length} bytes")
    return f"{method} {path}", headers, length
