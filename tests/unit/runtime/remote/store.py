"""A store of files on loopback: what is put there, and what it serves."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Put", "Store", "open_store"]


@dataclass(frozen=True)
class Put:
    path: str
    content_type: str
    data: bytes
    headers: dict[str, str]


@dataclass
class Store:
    """`files` are served, by path; `answers` are the statuses of the next requests to put."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    puts: list[Put] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    gets: list[str] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    """The headers of each GET."""
    moved: dict[str, str] = field(default_factory=dict)
    """Where requests for a path are sent on to."""
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a request for ``/hold`` has come, which is answered when `hold` is set."""

    @property
    def stored(self) -> dict[str, bytes]:
        return {put.path: put.data for put in self.puts}

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line = (await reader.readline()).decode()
        if not line:
            return False
        method, path, _ = line.split()
        headers = {}
        while (header := (await reader.readline()).decode().strip()) != "":
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        status, answer = 200, b""
        if method == "PUT":
            self.puts.append(Put(path, headers.get("content-type", ""), body, headers))
            status = self.answers.pop(0) if self.answers else 200
        else:
            self.gets.append(path)
            self.asked.append(headers)
            if path.startswith("/hold"):
                self.held.set()
                await self.hold.wait()
            found = self.files.get(path.partition("?")[0])
            status, answer = (404, b"") if found is None else (200, found)
        more = ""
        if path in self.moved:
            status, answer, more = 302, b"", f"Location: {self.moved[path]}\r\n"
        reason = {200: "OK", 404: "Not Found"}.get(status, "Odd")
        head = f"HTTP/1.1 {status} {reason}\r\nContent-Length: {len(answer)}\r\n{more}\r\n"
        writer.write(head.encode() + answer)
        await writer.drain()
        return True


@contextlib.asynccontextmanager
async def open_store() -> AsyncIterator[Store]:
    store = Store()
    serving: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.ensure_future(store.answer(reader, writer)))

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    store.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield store
    finally:
        store.hold.set()
        server.close()
        await server.wait_closed()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
