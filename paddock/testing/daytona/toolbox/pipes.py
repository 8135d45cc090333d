"""Pipes, FIFOs and terminals, read and written on the event loop."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

__all__ = ["CHUNK", "Inlet", "Outlet"]

CHUNK = 64 * 1024
"""Bytes that are read at once."""


class Outlet:
    """The end that data comes out of. Owns the descriptor from entering on."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._reader = asyncio.StreamReader(limit=CHUNK)

    async def __aenter__(self) -> Self:
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self._reader),
            os.fdopen(self._descriptor, "rb", 0),
        )
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._transport.close()

    async def read(self) -> bytes:
        """The next data; empty when every writer has closed."""
        try:
            return await self._reader.read(CHUNK)
        except OSError:  # EIO: no process has the terminal open
            return b""

    async def read_to_end(self) -> bytes:
        collected = bytearray()
        while data := await self.read():
            collected += data
        return bytes(collected)


class Inlet:
    """The end that data goes in at. Owns the descriptor from entering on.

    What is written after the reader has left is dropped.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def __aenter__(self) -> Self:
        self._transport, self._flow = await asyncio.get_running_loop().connect_write_pipe(
            _Flow, os.fdopen(self._descriptor, "wb", 0)
        )
        return self

    async def __aexit__(self, *_error: object) -> None:
        if not self._flow.lost.is_set():
            self._transport.abort()

    async def write(self, data: bytes) -> None:
        """Return when the pipe has room again, or its reader is gone."""
        if not self._flow.lost.is_set():
            self._transport.write(data)
            await self._flow.room.wait()

    async def send(self, data: bytes) -> None:
        """Write it all and close the end."""
        await self.write(data)
        self._transport.write_eof()
        await self._flow.lost.wait()


class _Flow(asyncio.BaseProtocol):
    """Whether there is room to write, and whether the pipe is closed."""

    def __init__(self) -> None:
        self.room = asyncio.Event()
        self.room.set()
        self.lost = asyncio.Event()

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set()
        self.room.set()
