"""The stream of a container's first process, as a protocol over the engine's own socket.

The engine answers an attach request with 101 and then passes bytes on as they are: to
the container plainly, from it in packets that say whether they were stdout or stderr
(moby's ``stdcopy``: one byte of stream, three of zero, four of length).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from paddock.backends.docker.engine import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from paddock.backends.docker.engine import Endpoint
    from paddock.backends.guest.client import GuestClient

__all__ = ["AttachedStream", "Packets", "open_stream"]

PACKET = struct.Struct("!BxxxI")
STDERR = 2
HEAD_LIMIT = 64 * 1024
LOG_LIMIT = 8 * 1024
"""Bytes kept of what the guest says on stderr: a traceback."""
DEADLINE = 30.0


class Packets:
    """Bytes of a multiplexed stream in, (stream, piece) out; no I/O.

    Pieces are given out as they come, without waiting for a packet's end.
    """

    def __init__(self) -> None:
        self._head = bytearray()
        self._stream = 0
        self._left = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        pieces = []
        view = memoryview(data)
        while view:
            if self._left:
                piece = view[: self._left]
                pieces.append((self._stream, bytes(piece)))
                self._left -= len(piece)
                view = view[len(piece) :]
                continue
            wanted = PACKET.size - len(self._head)
            self._head += view[:wanted]
            view = view[wanted:]
            if len(self._head) == PACKET.size:
                self._stream, self._left = PACKET.unpack(self._head)
                self._head.clear()
        return pieces


class AttachedStream(asyncio.Protocol):
    """Asks for the stream, then passes a container's stdout to a `GuestClient`."""

    def __init__(self, path: str, client: GuestClient) -> None:
        self._request = (
            f"POST {path} HTTP/1.1\r\nHost: docker\r\n"
            "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
        ).encode()
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._head: bytearray | None = bytearray()
        self._packets = Packets()
        self._log = bytearray()
        self.attached: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def log(self) -> str:
        """The end of what the guest said on stderr."""
        return self._log.decode(errors="replace").strip()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            data = self._read_head(data)
        for stream, piece in self._packets.feed(data):
            if stream == STDERR:
                self._log += piece
                del self._log[:-LOG_LIMIT]
            else:
                self._client.data_received(piece)

    def _read_head(self, data: bytes) -> bytes:
        assert self._head is not None
        assert self._transport is not None
        self._head += data
        head, end, rest = bytes(self._head).partition(b"\r\n\r\n")
        if not end:
            if len(self._head) > HEAD_LIMIT:
                self._refuse("its answer has no end")
            return b""
        status = head.split(b" ", 2)[1:2]
        if status not in ([b"101"], [b"200"]):
            self._refuse(bytes(self._head).decode(errors="replace"))
            return b""
        self._head = None
        self._client.connection_made(self._transport)
        if not self.attached.done():
            self.attached.set_result(None)
        return rest

    def _refuse(self, answer: str) -> None:
        if not self.attached.done():
            self.attached.set_exception(EngineError(f"attaching to a container: {answer}"))
        assert self._transport is not None
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.attached.done():
            self.attached.set_exception(EngineError("the engine hung up on an attach"))
        self._client.connection_lost(exc)


async def open_stream(
    endpoint: Endpoint, container: str, version: str, client: GuestClient
) -> AttachedStream:
    """Attach to a container's first process; returns when the engine has agreed.

    Raises `EngineError`. If cancelled, the connection is closed.
    """
    path = f"/v{version}/containers/{container}/attach?stream=1&stdin=1&stdout=1&stderr=1"
    transport, stream = await _dial(endpoint, lambda: AttachedStream(path, client))
    try:
        async with asyncio.timeout(DEADLINE):
            await stream.attached
    except BaseException as error:
        transport.abort()
        if isinstance(error, TimeoutError):
            raise EngineError("attaching to a container: the engine did not answer") from None
        raise
    return stream


async def _dial(
    endpoint: Endpoint, factory: Callable[[], AttachedStream]
) -> tuple[asyncio.Transport, AttachedStream]:
    loop = asyncio.get_running_loop()
    place = urlsplit(endpoint.url)
    try:
        if place.scheme == "unix":
            return await loop.create_unix_connection(factory, place.path)
        if place.scheme == "ssh":
            return await loop.create_unix_connection(factory, sock=await _dial_ssh(endpoint.url))
        return await loop.create_connection(
            factory, place.hostname or "localhost", place.port or 2375, ssl=endpoint.ssl_context()
        )
    except OSError as error:
        raise EngineError(f"attaching to a container: {error}") from error


async def _dial_ssh(url: str) -> socket.socket:
    """The engine's socket at the other end of ssh, as the docker CLI reaches it.

    The ssh client ends with the stream: it has the other end of it as stdin and stdout.
    """
    ours, theirs = socket.socketpair()
    place = urlsplit(url)
    with theirs:
        await asyncio.create_subprocess_exec(
            "ssh",
            *(["-p", str(place.port)] if place.port else []),
            *(["-l", place.username] if place.username else []),
            *("-T", "--", place.hostname or "", "docker", "system", "dial-stdio"),
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
        )
    return ours
