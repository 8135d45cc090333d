"""The host's end of the connections that travel through a guest's stream.

What comes from the guest is not trusted: it may open no more connections than it was
told, and send no more than it was granted. It does not know where connections lead.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from paddock.backends.guest.inside import wire
from paddock.errors import SandboxLost

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["Tunnel", "Tunnels"]

Send = Callable[[int, int, bytes], None]
"""Sends a frame: kind, channel, payload. Raises `SandboxLost` when the guest is gone."""

ERRNO_MAX = 4095
"""The largest that Linux has."""


class Tunnels:
    """The connections of one guest, by channel."""

    def __init__(self, send: Send, new_channel: Callable[[], int]) -> None:
        self.send = send
        self._new_channel = new_channel
        self._by_channel: dict[int, Tunnel] = {}
        self._from_guest = 0
        self.on_open: Callable[[Tunnel], None] | None = None
        """Takes a connection that was made inside; None when the guest listens to none."""

    def dial(self, port: int) -> Tunnel:
        """Ask for a connection to `port` inside; its `opened` tells how that went."""
        channel = self._new_channel()
        self.send(wire.OPEN, channel, wire.LENGTH.pack(port))
        tunnel = self._by_channel[channel] = Tunnel(self, channel)
        return tunnel

    def on_frame(self, kind: int, channel: int, payload: bytes) -> None:
        """Raises `ValueError` or `struct.error` if the guest does not keep to the protocol."""
        if kind == wire.OPEN:
            self._on_open(channel)
        elif channel in self._by_channel:  # else it ended here while the frame was on its way
            self._by_channel[channel]._on_frame(kind, payload)

    def _on_open(self, channel: int) -> None:
        ours = not channel & wire.GUEST_CHANNELS
        if ours or channel in self._by_channel or self.on_open is None:
            raise ValueError("it opens a connection where it may not")
        if self._from_guest >= wire.TUNNELS_MAX:
            raise ValueError("it opens more connections than it may")
        self._from_guest += 1
        tunnel = self._by_channel[channel] = Tunnel(self, channel)
        self.on_open(tunnel)

    def on_lost(self) -> None:
        """The guest is gone, and all connections with it."""
        for tunnel in tuple(self._by_channel.values()):
            tunnel._break(errno.ECONNRESET)

    def forget(self, channel: int) -> bool:
        """Whether the connection was there until now."""
        known = self._by_channel.pop(channel, None) is not None
        if known and channel & wire.GUEST_CHANNELS:
            self._from_guest -= 1
        return known


class Tunnel:
    """One connection: a `ByteStream`. All its errors are `ConnectionError`."""

    def __init__(self, tunnels: Tunnels, channel: int) -> None:
        self._tunnels = tunnels
        self._channel = channel
        self._changed = asyncio.Event()
        self._stands = False
        self._broken: int | None = None
        self._received = bytearray()
        self._room = wire.TUNNEL_WINDOW
        """Bytes that the guest may still send."""
        self._owed = 0
        """Bytes that were taken from here and not yet granted anew."""
        self._all_received = False
        self._window = wire.TUNNEL_WINDOW
        self._all_sent = False

    # from the guest

    def _on_frame(self, kind: int, payload: bytes) -> None:
        if kind == wire.BYTES:
            self._on_bytes(payload)
        elif kind == wire.END:
            self._on_end()
        elif kind == wire.GRANT:
            self._window += wire.LENGTH.unpack(payload)[0]
            if self._window > wire.TUNNEL_WINDOW:
                raise ValueError("it grants more than it was sent")
        elif kind == wire.OPENED:
            self._stands = True
        else:
            self._break(min(wire.LENGTH.unpack(payload)[0], ERRNO_MAX))
        self._changed.set()

    def _on_bytes(self, payload: bytes) -> None:
        self._room -= len(payload)
        if self._room < 0 or self._all_received:
            raise ValueError("it sends more on a connection than it may")
        self._received += payload

    def _on_end(self) -> None:
        if self._all_received:
            raise ValueError("it ends a connection twice")
        self._all_received = True
        self._maybe_forget()

    def _break(self, number: int) -> None:
        self._broken = number
        self._tunnels.forget(self._channel)
        self._changed.set()

    # for the owner

    async def opened(self) -> None:
        """Wait until there is a connection; `ConnectionRefusedError` when nobody listens."""
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
        if self._tunnels.forget(self._channel):
            self._broken = errno.ECONNABORTED
            with contextlib.suppress(ConnectionError):
                self._send(wire.RESET, wire.LENGTH.pack(errno.ECONNABORTED))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
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
            self._tunnels.send(kind, self._channel, payload)
        except SandboxLost as error:
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
            self._tunnels.forget(self._channel)
