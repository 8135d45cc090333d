"""Streams of bytes with two ends each, and passing one on to another.

A stream ends in each direction on its own, as TCP does, and what was cut off is never
taken for what has ended. It does not know what the bytes mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Protocol

from paddock.backends.guest.inside.wire import PIECE

if TYPE_CHECKING:
    from typing import Self

__all__ = ["ByteStream", "TcpStream", "relay"]

ABORTIVE = struct.pack("ii", 1, 0)
"""SO_LINGER for a close that the peer sees as a reset."""


class ByteStream(Protocol):
    """A connection. One task at a time receives, one sends.

    A cancelled `receive` loses nothing; after a cancelled `send` it can only be closed.
    """

    async def receive(self) -> bytes:
        """The next bytes, at most `PIECE`; none when the peer has ended its way.

        `ConnectionError` when the connection is broken; what came before is given first.
        """

    async def send(self, data: bytes) -> None:
        """Returns when the bytes are on their way; waits while the peer does not read."""

    async def send_eof(self) -> None:
        """End our way."""

    def close(self) -> None:
        """Let go of it. Unless both ways have ended, the peer sees a reset. Idempotent.

        No other call may be under way.
        """


class TcpStream:
    """A connected socket, which it owns.

    The socket's own calls and no asyncio transport: a transport that fails to write
    throws away what can still be read, which may be the reason.
    """

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        with contextlib.suppress(OSError):  # it is gone already: the first use will tell
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connected
        self._loop = asyncio.get_running_loop()
        self._all_received = False
        self._all_sent = False

    async def receive(self) -> bytes:
        data = await self._loop.sock_recv(self._socket, PIECE)
        self._all_received = not data
        return data

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._socket, data)

    async def send_eof(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)
        self._all_sent = True

    def close(self) -> None:
        if not (self._all_received and self._all_sent) and self._socket.fileno() >= 0:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORTIVE)
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


async def relay(one: ByteStream, other: ByteStream) -> None:
    """Pass on what comes from either until both have ended; the caller closes them.

    Raises `ConnectionError` as soon as one is broken.
    """
    ways = [
        asyncio.ensure_future(_pass_on(one, other)),
        asyncio.ensure_future(_pass_on(other, one)),
    ]
    try:
        await asyncio.gather(*ways)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _pass_on(source: ByteStream, sink: ByteStream) -> None:
    while data := await source.receive():
        try:
            await sink.send(data)
        except OSError:
            return  # it hung up early: what it has said before, and how it ended, comes back
    with contextlib.suppress(OSError):
        await sink.send_eof()
