"""One stream to a guest: its transport and its framing.

A connection is replaced when its stream breaks; the channels that it carries are not. What
comes from a guest is not trusted: a frame that breaks a rule goes to `Receiver.on_violation`
and is the last one that is read.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from paddock.backends.guest.inside import wire
from paddock.backends.guest.writer import SharedWriter

if TYPE_CHECKING:
    from paddock.backends.guest.inside.seal import Seal

__all__ = ["Connection", "ProtocolViolation", "Receiver"]


class ProtocolViolation(ValueError):
    """A guest sent what the protocol does not allow; the text says what."""


class Receiver(Protocol):
    """Receives the frames of a connection."""

    def on_frame(self, kind: int, channel: int, payload: bytes) -> None:
        """Take one frame. Raises `ProtocolViolation`."""

    def on_violation(self, reason: str) -> None:
        """The guest broke the protocol; nothing more of it is read."""

    def on_disconnected(self, connection: Connection) -> None:
        """The stream has ended. Called once."""


class Connection(asyncio.Protocol):
    """One stream. Frames go to `receiver`, which may be changed between two of them."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self._frames = wire.Frames()
        self._seal: Seal | None = None
        self._transport: asyncio.Transport | None = None
        self._writer: SharedWriter | None = None
        self._broken = False

    def seal(self, ours: Seal, theirs: Seal) -> None:
        """Follow each frame by a tag, and expect one after each, from the first one on.

        The carrier of such a stream is not trusted: a frame that was forged on its way is the
        end of this connection, and no violation by the guest.
        """
        self._seal = ours
        self._frames = wire.Frames(theirs)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._writer = SharedWriter(transport, asyncio.get_running_loop(), self._seal)

    def data_received(self, data: bytes) -> None:
        if self._broken:
            return
        try:
            frames = self._frames.feed(data)
        except ValueError as error:
            self._broken = True
            if self._seal is not None:
                self.abort()
            else:
                self.receiver.on_violation(str(error))
            return
        for frame in frames:
            self._pass_on(*frame)

    def _pass_on(self, kind: int, channel: int, payload: bytes) -> None:
        if self._broken:
            return
        try:
            self.receiver.on_frame(kind, channel, payload)
        except Exception as error:  # whatever it is, no caller may wait for this guest any longer
            self._broken = True
            known = isinstance(error, ValueError)
            self.receiver.on_violation(str(error) if known else f"{type(error).__name__}: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._writer is not None:
            self._writer.close()
        self.receiver.on_disconnected(self)

    def write(self, data: bytes) -> None:
        """Send whole frames, or the program of a guest that does not run yet."""
        assert self._writer is not None, "not connected"
        self._writer.write(data)

    def write_from_thread(self, data: bytes) -> None:
        """The same from any thread; see `SharedWriter`."""
        if self._writer is not None:
            self._writer.write_from_thread(data)

    def close(self) -> None:
        """End the stream, at which a guest that may not outlive us kills all and exits."""
        if self._writer is not None and self._transport is not None:
            self._writer.close()
            self._transport.close()

    def abort(self) -> None:
        """End the stream at once. What has not been sent is thrown away."""
        if self._writer is not None and self._transport is not None:
            self._writer.close()
            self._transport.abort()
