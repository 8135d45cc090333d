"""Streams of a container's processes, over the engine's own socket.

The engine answers such a request with 101 and then passes bytes on as they are: to the
process plainly, from it in packets that say whether they were stdout or stderr (moby's
``stdcopy``: one byte of stream, three of zero, four of length). What the bytes mean is not
known here.
"""

from __future__ import annotations

import asyncio
import struct
from abc import abstractmethod
from typing import TYPE_CHECKING, TypeVar

from paddock._concurrency import Interrupted, interruptible
from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.engine.dial import dial

if TYPE_CHECKING:
    from collections.abc import Callable

    from paddock.backends.docker.engine.client import Engine

__all__ = ["STDERR", "STDOUT", "HijackedStream", "Packets", "open_hijacked"]

PACKET = struct.Struct("!BxxxI")
STDOUT, STDERR = 1, 2
HEAD_LIMIT = 64 * 1024
DEADLINE = 30.0
"""Seconds in which an engine has to agree to pass a stream on: it takes a millisecond."""


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


class HijackedStream(asyncio.Protocol):
    """Asks for a stream, then passes on what comes from it.

    `what` names the request in errors.
    """

    def __init__(self, what: str, engine: Engine, path: str, body: bytes = b"") -> None:
        self._what = what
        self._request = (
            f"POST /v{engine.version}{path} HTTP/1.1\r\nHost: docker\r\n"
            "Connection: Upgrade\r\nUpgrade: tcp\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        self._transport: asyncio.Transport | None = None
        self._head: bytearray | None = bytearray()
        self._packets = Packets()
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @abstractmethod
    def on_open(self, transport: asyncio.Transport) -> None:
        """The engine has agreed; what is written to `transport` goes to the process."""

    @abstractmethod
    def on_output(self, stream: int, data: bytes) -> None:
        """A piece of `STDOUT` or `STDERR`."""

    @abstractmethod
    def on_end(self, error: Exception | None) -> None:
        """The stream has ended; called once, whether it was ever open or not."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            data = self._read_head(data)
        for stream, piece in self._packets.feed(data):
            self.on_output(stream, piece)

    def _read_head(self, data: bytes) -> bytes:
        assert self._head is not None
        assert self._transport is not None
        self._head += data
        head, end, rest = bytes(self._head).partition(b"\r\n\r\n")
        if not end:
            if len(self._head) > HEAD_LIMIT:
                self._refuse("the engine's answer has no end")
            return b""
        if head.split(b" ", 2)[1:2] not in ([b"101"], [b"200"]):
            self._refuse(bytes(self._head).decode(errors="replace"))
            return b""
        self._head = None
        self.on_open(self._transport)
        if not self.opened.done():
            self.opened.set_result(None)
        return rest

    def _refuse(self, answer: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(EngineError(f"{self._what}: {answer}"))
        assert self._transport is not None
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(EngineError(f"{self._what}: the engine hung up"))
        self.on_end(exc)


S = TypeVar("S", bound=HijackedStream)


async def open_hijacked(engine: Engine, what: str, factory: Callable[[], S]) -> S:
    """Make the request; returns when the engine has agreed.

    Raises `EngineError`. If cancelled, the connection is closed.
    """
    transport, stream = await dial(engine.endpoint, what, factory)
    try:
        async with asyncio.timeout(DEADLINE):
            await interruptible(stream.opened)
    except BaseException as error:
        transport.abort()
        if isinstance(error, TimeoutError | Interrupted):
            raise EngineError(f"{what}: the engine did not answer") from None
        raise
    return stream
