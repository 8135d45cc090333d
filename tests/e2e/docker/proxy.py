"""A proxy in front of an engine's socket whose streams can be held up and cut."""

from __future__ import annotations

import asyncio
import contextlib

__all__ = ["EngineProxy"]


class EngineProxy:
    """Passes everything on. `refusing` cuts new connections; `flowing`, while it is cleared,
    holds up what the engine sends on streams of processes."""

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self.refusing = False
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        request = await self._first_line(near)
        if self.refusing or not request:
            back.transport.abort()
            return
        far, forth = await asyncio.open_unix_connection(self.socket)
        forth.write(request)
        is_stream = b"/attach?" in request or (b"/exec/" in request and b"/start" in request)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(
                self._copy(near, forth, held=False), self._copy(far, back, held=is_stream)
            )

    async def _first_line(self, near: asyncio.StreamReader) -> bytes:
        """Nothing from somebody who only looks whether anybody listens."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            return await near.readuntil(b"\r\n")
        return b""

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, held: bool
    ) -> None:
        self._writers.add(writer)
        try:
            while data := await reader.read(65536):
                if held:
                    await self.flowing.wait()
                writer.write(data)
                await writer.drain()
        finally:
            self._writers.discard(writer)
            writer.close()

    def cut(self) -> None:
        """Break all connections that there are."""
        for writer in tuple(self._writers):
            writer.transport.abort()
