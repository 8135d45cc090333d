"""A proxy whose connections break after so many bytes, wherever that is."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["Cutter", "cutting"]


class Cutter:
    """Leads to `port`. Each connection carries as many bytes, both ways together, as `budget`
    says; None is for ever."""

    def __init__(self, port: int, budget: Callable[[], int | None]) -> None:
        self._port = port
        self.budget = budget
        self.url = ""
        self.cuts = 0
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Cut what is open now."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = self.budget()
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, back}
        self._writers |= both

        async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            nonlocal left
            with contextlib.suppress(OSError):
                while data := await source.read(4096):
                    if left is not None:
                        data, left = data[:left], left - len(data)
                    target.write(data)
                    await target.drain()
                    if left is not None and left <= 0:
                        self.cuts += 1
                        return

        ways = [asyncio.create_task(carry(reader, back)), asyncio.create_task(carry(there, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for each in both:
                each.transport.abort()
            self._writers -= both


@contextlib.asynccontextmanager
async def cutting(port: int, budget: Callable[[], int | None]) -> AsyncIterator[Cutter]:
    cutter = Cutter(port, budget)
    leading: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        leading.add(asyncio.ensure_future(cutter.lead(reader, writer)))

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    cutter.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield cutter
    finally:
        server.close()
        await server.wait_closed()
        for task in leading:
            task.cancel()
        await asyncio.gather(*leading, return_exceptions=True)
