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

import h11

from paddock._concurrency import Interrupted, interruptible
from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.engine.dial import dial
from paddock.backends.docker.engine.stream import message_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from paddock.backends.docker.engine.client import Engine

__all__ = ["STDERR", "STDOUT", "HijackedStream", "Packets", "open_hijacked"]

PACKET = struct.Struct("!BxxxI")
STDOUT, STDERR = 1, 2
REFUSAL_MAX = 64 * 1024
"""Bytes of an answer that refuses a stream, of which the rest is not read."""
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

    `what` names the request in errors. The stream of a `terminal` is not in packets, and all of
    it is stdout.
    """

    def __init__(
        self, what: str, engine: Engine, path: str, body: bytes = b"", *, terminal: bool = False
    ) -> None:
        self._what = what
        self._request = h11.Request(
            method="POST",
            target=f"/v{engine.version}{path}",
            headers=[
                ("Host", "docker"),
                ("Connection", "Upgrade"),
                ("Upgrade", "tcp"),
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
            ],
        )
        self._body = body
        self._transport: asyncio.Transport | None = None
        self._http: h11.Connection | None = h11.Connection(h11.CLIENT)
        self._refusal = bytearray()
        self._packets = None if terminal else Packets()
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
        assert self._http is not None
        self._transport = transport
        for event in (self._request, h11.Data(data=self._body), h11.EndOfMessage()):
            transport.write(self._http.send(event) or b"")

    def data_received(self, data: bytes) -> None:
        if self._http is not None:
            data = self._read_answer(self._http, data)
        if self._packets is not None:
            for stream, piece in self._packets.feed(data):
                self.on_output(stream, piece)
        elif data:
            self.on_output(STDOUT, data)

    def _read_answer(self, http: h11.Connection, data: bytes) -> bytes:
        """Return what of the stream came with the answer's end, if the engine agrees."""
        http.receive_data(data)
        try:
            while True:
                match http.next_event():
                    case h11.InformationalResponse(status_code=101) | h11.Response(status_code=200):
                        self._open()
                        return http.trailing_data[0]
                    case h11.Data(data=piece) if len(self._refusal) < REFUSAL_MAX:
                        self._refusal += piece
                    case h11.NEED_DATA | h11.PAUSED:
                        return b""
                    case h11.Data() | h11.EndOfMessage():
                        self._refuse(message_in(bytes(self._refusal)))
                        return b""
        except h11.RemoteProtocolError as error:
            self._refuse(f"the engine's answer is not HTTP/1 ({error})")
        return b""

    def _open(self) -> None:
        assert self._transport is not None
        self._http = None
        self.on_open(self._transport)
        if not self.opened.done():
            self.opened.set_result(None)

    def _refuse(self, reason: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(EngineError(f"{self._what}: {reason}"))
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
