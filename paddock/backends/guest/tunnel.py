"""The host's end of the connections that travel through a guest's stream.

What comes from the guest is not trusted: it may open no more connections than it was
allowed, and send no more than it was granted. Where connections lead is not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from typing import TYPE_CHECKING, Self

from paddock.backends.guest.channels import Channels, number_of
from paddock.backends.guest.connection import ProtocolViolation
from paddock.backends.guest.inside import wire
from paddock.errors import SandboxClosed, SandboxLost

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Tunnel", "Tunnels"]

ERRNO_MAX = 4095
"""The largest that Linux has."""
LATE_FRAMES = wire.TUNNEL_WINDOW + 2
"""Frames that may be on their way on a connection that is closed here: a byte each at the
smallest, an end and a reset."""


class Tunnels:
    """The connections of one guest, by channel."""

    def __init__(self, channels: Channels) -> None:
        self.channels = channels
        self._from_guest = 0

    def listen(self, on_open: Callable[[Tunnel], None]) -> None:
        """Have `on_open` take connections that are made inside, of which there may be
        `TUNNELS_MAX` at once."""

        def open_for_guest(number: int) -> None:
            if self._from_guest >= wire.TUNNELS_MAX:
                raise ProtocolViolation("it opens more connections than it may")
            self._from_guest += 1
            tunnel = Tunnel(self, number)
            self.channels.enter(number, tunnel)
            on_open(tunnel)

        self.channels.on_open = open_for_guest

    def dial(self, port: int) -> Tunnel:
        """Ask for a connection to `port` inside; its `opened` tells how that went."""
        tunnel = Tunnel(self)
        self.channels.send(wire.OPEN, tunnel.number, wire.LENGTH.pack(port))
        return tunnel

    def forget(self, number: int) -> bool:
        """Close the channel of a connection; return whether it was open until now."""
        known = self.channels.close_channel(number, late_frames=LATE_FRAMES)
        if known and number & wire.GUEST_CHANNELS:
            self._from_guest -= 1
        return known


class Tunnel:
    """One connection: a `ByteStream`. All its errors are `ConnectionError`."""

    def __init__(self, tunnels: Tunnels, number: int | None = None) -> None:
        self._tunnels = tunnels
        self._changed = asyncio.Event()
        self._dialled = number is None
        self._stands = False
        self._broken: int | None = None
        self._received = bytearray()
        self._room = wire.TUNNEL_WINDOW
        """Bytes that the guest may still send."""
        self._owed = 0
        """Bytes that were taken from here and not yet granted again."""
        self._all_received = False
        self._window = wire.TUNNEL_WINDOW
        self._all_sent = False
        self.number: int = tunnels.channels.open(self) if number is None else number

    # from the guest

    @property
    def waiting(self) -> bool:
        return True

    streaming = False

    def on_frame(self, kind: int, payload: bytes) -> None:
        if kind == wire.BYTES:
            self._on_bytes(payload)
        elif kind == wire.END:
            self._on_end()
        elif kind == wire.GRANT:
            self._on_grant(number_of(payload))
        elif kind == wire.OPENED and self._dialled and not self._stands:
            self._stands = True
        elif kind == wire.RESET:
            self._break(min(number_of(payload), ERRNO_MAX))
        else:
            raise ProtocolViolation(f"a frame of kind {kind} that a connection has no use for")
        self._changed.set()

    def _on_bytes(self, payload: bytes) -> None:
        self._room -= len(payload)
        if not payload or self._room < 0 or self._all_received:
            raise ProtocolViolation("it sends more on a connection than it may")
        self._received += payload

    def _on_grant(self, size: int) -> None:
        self._window += size
        if not size or self._window > wire.TUNNEL_WINDOW:
            raise ProtocolViolation("it grants more than it was sent")

    def _on_end(self) -> None:
        if self._all_received:
            raise ProtocolViolation("it ends a connection twice")
        self._all_received = True
        self._maybe_forget()

    def on_over(self, error: SandboxLost | SandboxClosed) -> None:
        self._break(errno.ECONNRESET)

    def on_break(self) -> bool:
        self._break(errno.ECONNRESET)
        return False

    def on_reconnected(self, *, heard: bool) -> None:
        """No connection outlives its stream."""

    def _break(self, number: int) -> None:
        self._broken = number
        self._tunnels.forget(self.number)
        self._changed.set()

    # for the owner

    async def opened(self) -> None:
        """Wait until there is a connection; `ConnectionRefusedError` when nothing listens."""
        while not self._stands:
            self._raise_if_broken()
            await self._change()

    async def receive(self) -> bytes:
        while not self._received:
            if self._all_received:
                return b""
            self._raise_if_broken()
            await self._change()
        data = bytes(self._received[: wire.PIECE])
        del self._received[: len(data)]
        self._owe(len(data))
        return data

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._raise_if_broken()
            if not self._window:
                await self._change()
                continue
            piece = view[: min(self._window, wire.PIECE)]
            self._window -= len(piece)
            self._send(wire.BYTES, bytes(piece))
            view = view[len(piece) :]

    async def send_eof(self) -> None:
        self._raise_if_broken()
        self._all_sent = True
        self._send(wire.END)
        self._maybe_forget()

    def close(self) -> None:
        if self._tunnels.forget(self.number):
            self._broken = errno.ECONNABORTED
            with contextlib.suppress(ConnectionError):
                self._send(wire.RESET, wire.LENGTH.pack(errno.ECONNABORTED))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # its state

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _raise_if_broken(self) -> None:
        if self._broken is not None:
            refused = self._broken == errno.ECONNREFUSED
            kind = ConnectionRefusedError if refused else ConnectionResetError
            raise kind(self._broken, os.strerror(self._broken))

    def _send(self, kind: int, payload: bytes = b"") -> None:
        try:
            self._tunnels.channels.send(kind, self.number, payload)
        except (SandboxLost, SandboxClosed) as error:
            raise ConnectionResetError(errno.ECONNRESET, str(error)) from None

    def _owe(self, size: int) -> None:
        """Grant in portions: a frame for each small piece would double their number."""
        self._owed += size
        if self._owed >= wire.TUNNEL_WINDOW // 2 and not self._all_received:
            with contextlib.suppress(ConnectionError):  # what came before the loss is still read
                self._send(wire.GRANT, wire.LENGTH.pack(self._owed))
            self._room += self._owed
            self._owed = 0

    def _maybe_forget(self) -> None:
        if self._all_received and self._all_sent:
            self._tunnels.forget(self.number)
