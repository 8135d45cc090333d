"""The host's end of a stream whose frames are sealed: between a transport and its protocol.

What carries such a stream is not trusted (see `paddock.backends.guest.inside.seal`). A forged
frame ends the stream, as if it had broken, and never reaches the protocol.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

from paddock.backends.guest.inside import seal, wire

if TYPE_CHECKING:
    from paddock.backends.guest.inside.seal import Seal

__all__ = ["SealedStream"]


class SealedStream(asyncio.Protocol):
    """Joins a guest by its `token`, and connects `protocol` when the guest has answered."""

    def __init__(self, protocol: asyncio.Protocol, token: str) -> None:
        self._protocol = protocol
        self._token = token.encode()
        self._nonce = secrets.token_bytes(seal.NONCE_BYTES)
        self._greeting = bytearray()
        self._transport: asyncio.Transport | None = None
        self._frames: wire.Frames | None = None
        self.ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Done when `protocol` is connected; false if the stream ended before."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(seal.hello(self._token, self._nonce))

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None, "data before a connection"
        if self._frames is None:
            self._greeting += data
            if len(self._greeting) < seal.NONCE_BYTES:
                return
            data = bytes(self._greeting[seal.NONCE_BYTES :])
            self._begin(self._transport, bytes(self._greeting[: seal.NONCE_BYTES]))
        assert self._frames is not None, "the greeting was read"
        try:
            frames = self._frames.feed(data)
        except ValueError:
            self._transport.abort()
            return
        for frame in frames:
            self._protocol.data_received(wire.frame(*frame))

    def _begin(self, transport: asyncio.Transport, guest_nonce: bytes) -> None:
        ours, theirs = seal.seals(self._token, self._nonce, guest_nonce)
        self._frames = wire.Frames(theirs)
        self._protocol.connection_made(SealedTransport(transport, ours))
        if not self.ready.done():
            self.ready.set_result(True)

    def abort(self) -> None:
        """End the stream at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_result(False)
        if self._frames is not None:
            self._protocol.connection_lost(exc)


class SealedTransport(asyncio.Transport):
    """Takes whole frames, and sends each with its tag."""

    def __init__(self, transport: asyncio.Transport, sealed: Seal) -> None:
        super().__init__()
        self._transport = transport
        self._seal = sealed

    def write(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        while view:
            (size, _, _) = wire.HEADER.unpack_from(view)
            end = wire.HEADER.size + size
            self._transport.write(b"".join((view[:end], self._seal.tag(view[:end]))))
            view = view[end:]

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()
