"""The greeting of a stream whose frames are sealed, between a transport and its connection.

What carries such a stream is not trusted (see `paddock.backends.guest.inside.seal`).
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

from paddock.backends.guest.inside import seal

if TYPE_CHECKING:
    from paddock.backends.guest.connection import Connection

__all__ = ["SealedStream"]


class SealedStream(asyncio.Protocol):
    """Joins a guest by its `token`, and makes `connection` when the guest has answered."""

    def __init__(self, connection: Connection, token: str) -> None:
        self._connection = connection
        self._token = token.encode()
        self._nonce = secrets.token_bytes(seal.NONCE_BYTES)
        self._greeting = bytearray()
        self._transport: asyncio.Transport | None = None
        self.ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Done when the connection is made; false if the stream ended before."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(seal.hello(self._token, self._nonce))

    def data_received(self, data: bytes) -> None:
        if not self._is_made:
            self._greeting += data
            if len(self._greeting) < seal.NONCE_BYTES:
                return
            self._begin(bytes(self._greeting[: seal.NONCE_BYTES]))
            data = bytes(self._greeting[seal.NONCE_BYTES :])
        self._connection.data_received(data)

    @property
    def _is_made(self) -> bool:
        return self.ready.done() and not self.ready.cancelled() and self.ready.result()

    def _begin(self, guest_nonce: bytes) -> None:
        assert self._transport is not None, "data before a connection"
        ours, theirs = seal.seals(self._token, self._nonce, guest_nonce)
        self._connection.seal(ours, theirs)
        self._connection.connection_made(self._transport)
        if not self.ready.done():
            self.ready.set_result(True)

    def abort(self) -> None:
        """End the stream at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_made:
            self._connection.connection_lost(exc)
        elif not self.ready.done():
            self.ready.set_result(False)
