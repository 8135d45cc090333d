"""How messages get to a server and back: by a process in a sandbox, or by HTTP. Both bounded.

A server is not trusted: it may send without end, and lines of any length.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from paddock._concurrency import cancel, finish
from paddock._logs import get_logger
from paddock.errors import MissingDependency, PaddockError, ToolError
from paddock.runtime.core.lines import LineBuffer
from paddock.runtime.tools.mcp.messages import BoundedMessages, bounded, read_message

try:
    import anyio
    import httpx2
    import mcp_types as types
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared.message import SessionMessage
except ImportError as error:
    raise MissingDependency(error.name or "mcp", "mcp") from error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.client._transport import TransportStreams

    from paddock.process import Process

__all__ = ["LastWords", "by_http", "by_process"]

MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes of one message: four images of the size that services take are as large."""

MAX_UNASKED = 10_000
"""Messages between two answers: progress of a call of two minutes, eighty
times a second. A server that sends more is ended."""

KEPT_WORDS = 2000
"""Bytes of the end of stderr that are kept, to say why a server ended."""

STDIN_GRACE = 1.0
"""Seconds that a process has to end by itself when its stdin is closed, as MCP asks for."""

CONNECT_TIMEOUT = 30.0
"""Seconds for a connection, and for sending a request, over HTTP."""

_log = get_logger(__name__)


@dataclass
class LastWords:
    """What a server's connection ended by, for its errors."""

    stderr: bytearray = field(default_factory=bytearray)
    reason: str | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server is known to answer no more."""

    def add(self, data: bytes) -> None:
        self.stderr = (self.stderr + data)[-KEPT_WORDS:]

    def __str__(self) -> str:
        told = self.stderr.decode(errors="replace").strip()
        parts = [self.reason or "", f"its stderr ends with:\n{told}" if told else ""]
        return "; ".join(part for part in parts if part)


@contextlib.asynccontextmanager
async def by_process(process: Process, words: LastWords) -> AsyncIterator[TransportStreams]:
    """Speak to `process` by its stdin and stdout; it has ended after the block."""
    to_client, receive = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    send, from_client = anyio.create_memory_object_stream[SessionMessage](0)
    wire = _Wire(process, words)
    with to_client, receive, send, from_client:
        reading = asyncio.create_task(wire.read(to_client), name="stdout of an MCP server")
        writing = asyncio.create_task(wire.write(from_client), name="stdin of an MCP server")
        try:
            yield receive, send
        finally:
            await finish(_end(process, reading, writing))


async def _end(process: Process, reading: asyncio.Task[None], writing: asyncio.Task[None]) -> None:
    """End `process`: it may do so itself first."""
    await cancel(writing)
    with contextlib.suppress(PaddockError, OSError, TimeoutError):
        async with asyncio.timeout(STDIN_GRACE):
            await process.send_eof()
            await process.wait()
    try:
        await process.aclose()
    finally:
        await cancel(reading)


class _Wire:
    def __init__(self, process: Process, words: LastWords) -> None:
        self._process = process
        self._words = words
        self._unasked = 0

    async def read(self, messages: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
        """Pass on what the server says, until it ends or says too much."""
        buffer = LineBuffer()
        async with messages:
            try:
                async for stream, data in self._process.output():
                    if stream == "stderr":
                        self._words.add(data)
                        continue
                    for line in buffer.feed(data):
                        await self._pass_on(line, messages)
                    if len(buffer) > MAX_MESSAGE:
                        raise _Flood(f"it sent a message of more than {MAX_MESSAGE} bytes")
                result = await self._process.wait()
                self._words.reason = f"it ended with exit code {result.exit_code}"
            except (_Flood, PaddockError) as error:
                self._words.reason = str(error)
            except anyio.BrokenResourceError:
                pass  # the reader has left
            finally:
                self._words.ended.set()
        await self._drain()

    async def _drain(self) -> None:
        """Read on, so that the process can end by itself."""
        with contextlib.suppress(PaddockError):
            async for _ in self._process.output():
                pass

    async def _pass_on(
        self, line: bytes, messages: MemoryObjectSendStream[SessionMessage | Exception]
    ) -> None:
        if not line.strip():
            return
        self._unasked += 1
        if self._unasked > MAX_UNASKED:
            raise _Flood(f"it sent more than {MAX_UNASKED} messages without a request")
        message = read_message(line)
        if message is None:
            self._words.add(line[:200] + b"\n")  # a program that prints an error there
            return
        if isinstance(message, types.JSONRPCResponse | types.JSONRPCError):
            self._unasked = 0
        await messages.send(SessionMessage(bounded(message)))

    async def write(self, messages: MemoryObjectReceiveStream[SessionMessage]) -> None:
        """Pass on what the client says."""
        async with messages:
            async for each in messages:
                text = each.message.model_dump_json(by_alias=True, exclude_unset=True)
                try:
                    await self._process.send(text.encode() + b"\n")
                except (OSError, PaddockError):
                    return  # the end of stdout says so, too


class _Flood(Exception):
    """The server says more than a client has to take."""


@contextlib.asynccontextmanager
async def by_http(
    url: str, headers: Mapping[str, str], *, silence: float
) -> AsyncIterator[TransportStreams]:
    """Speak to the server at `url`; it may be silent for `silence` seconds."""
    limits = httpx2.Timeout(CONNECT_TIMEOUT, read=silence)
    transport = _Bounded(httpx2.AsyncHTTPTransport())
    async with (
        httpx2.AsyncClient(headers=dict(headers), timeout=limits, transport=transport) as client,
        streamable_http_client(url, http_client=client, max_sse_event_size=MAX_MESSAGE) as streams,
    ):
        receive, send = streams
        yield BoundedMessages(receive), send


class _Bounded(httpx2.AsyncBaseTransport):
    """Ends a response that is one message and longer than one may be."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
        if not is_stream and isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _BoundedStream(response.stream)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for data in self._inner:
            size += len(data)
            if size > MAX_MESSAGE:
                raise ToolError(f"the server sent a message of more than {MAX_MESSAGE} bytes")
            yield data

    async def aclose(self) -> None:
        await self._inner.aclose()
