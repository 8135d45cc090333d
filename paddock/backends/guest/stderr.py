"""What a guest's process says on stderr: its end, in bounded memory and as harmless text."""

from __future__ import annotations

import asyncio
import os

from paddock._concurrency import Signal

__all__ = ["TAIL_BYTES", "GuestStderr", "printable"]

TAIL_BYTES = 2000
"""Bytes that are kept: the end of a traceback. A guest that was taken over may write any number."""
END_TIMEOUT = 1.0
"""Seconds for the last bytes to come after the process has ended: they are there already, unless
something that it started holds the stream open."""


class GuestStderr(asyncio.Protocol):
    """Reads a pipe to its end and keeps the last `TAIL_BYTES`, so that no file can grow."""

    def __init__(self) -> None:
        self._tail = bytearray()
        self._ended = Signal()
        self._transport: asyncio.BaseTransport | None = None

    @classmethod
    async def open(cls) -> tuple[GuestStderr, int]:
        """Begin to read a new pipe. The caller closes the descriptor to write to."""
        reader, writer = os.pipe()
        pipe = os.fdopen(reader, "rb", buffering=0)
        try:
            _, stderr = await asyncio.get_running_loop().connect_read_pipe(cls, pipe)
        except BaseException:
            pipe.close()
            os.close(writer)
            raise
        return stderr, writer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._tail += data
        del self._tail[:-TAIL_BYTES]

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended.set()

    async def last_words(self) -> str:
        """The end of it, once the process has ended."""
        try:
            async with asyncio.timeout(END_TIMEOUT):
                await self._ended.wait()
        except TimeoutError:
            pass  # what has come will do
        return printable(bytes(self._tail))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def printable(data: bytes) -> str:
    """Text of an untrusted process, without what a terminal would obey."""
    text = data.decode(errors="replace").strip()
    return "".join(
        char if char.isprintable() or char in "\n\t" else f"\\x{ord(char):02x}" for char in text
    )
