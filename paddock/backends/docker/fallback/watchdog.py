"""The host's end of a container's first process, a control shell that expects heartbeats."""

from __future__ import annotations

import asyncio

from paddock.backends.guest.link import Link
from paddock.backends.guest.writer import SharedWriter
from paddock.backends.posix.control import ControlShell

__all__ = ["Watchdog"]


class Watchdog(ControlShell, asyncio.Protocol):
    """One first process, and the `Heart` of its sandbox."""

    def __init__(self) -> None:
        super().__init__(Link())
        self._transport: asyncio.Transport | None = None
        self._writer: SharedWriter | None = None
        self.link.when_over(self._on_over)
        self.connected = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._writer = SharedWriter(transport, asyncio.get_running_loop())

    def data_received(self, data: bytes) -> None:
        self.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._writer is not None:
            self._writer.close()
        if not self.ready.done():
            self.ready.set_result(None)
        self.connected = False
        self.link.break_off()

    def beat(self) -> None:
        if self.link.begin_beat():
            self._send("beat", None)

    def _on_over(self) -> None:
        if self._transport is not None and self._writer is not None:
            self._writer.close()
            self._transport.abort()
        self.end()

    def _write(self, data: bytes) -> None:
        assert self._writer is not None, "not connected"
        self._writer.write_from_thread(data)
