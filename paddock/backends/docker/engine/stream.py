"""Requests that take minutes: bytes go up, JSON objects come down, on the event loop.

Builds, pulls and imports are such requests. None of them holds a thread, and one that is
cancelled closes its connection, by which the engine learns that nobody waits. What is
asked for is not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.engine.dial import dial

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping

    from paddock.backends.docker.engine.client import Engine
    from paddock.backends.docker.engine.endpoint import Endpoint

__all__ = ["post"]

QUIET = 1800.0
"""Seconds in which an engine says nothing: a compiler in a build may be as silent, no longer."""
HEAD_LIMIT = 64 * 1024
LAST_CHUNK = b"0\r\n\r\n"


@contextlib.asynccontextmanager
async def post(
    engine: Engine,
    what: str,
    path: str,
    *,
    query: Mapping[str, str],
    headers: Mapping[str, str] | None = None,
    body: AsyncIterable[bytes] | None = None,
) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """Send a request and give an iterator of the objects that the engine answers with.

    `what` names the request in errors. The iterator raises `EngineError` when the engine
    refuses, hangs up or falls silent, and whatever `body` raises. However the block is
    left, the connection is closed and `body` is not read any more.
    """
    reader, writer = await _open(engine.endpoint, what)
    head = _head(f"/v{engine.version}{path}?{urlencode(query)}", headers or {}, body is not None)
    upload = asyncio.create_task(_send(writer, head, body))
    try:
        async with contextlib.aclosing(_objects(reader, upload, what)) as objects:
            yield objects
    finally:
        upload.cancel()
        writer.transport.abort()
        await asyncio.wait([upload])


async def _objects(
    reader: asyncio.StreamReader, upload: asyncio.Task[None], what: str
) -> AsyncGenerator[dict[str, Any]]:
    try:
        response = await _Response.begin(reader, what)
        async for found in response.objects():
            yield found
    except (EOFError, OSError) as error:
        raise await _cause(upload) or _gone(what, error) from None


async def _cause(upload: asyncio.Task[None]) -> Exception | None:
    """What the body raised, when that is why there is no answer."""
    upload.cancel()
    await asyncio.wait([upload])
    error = None if upload.cancelled() else upload.exception()
    return error if isinstance(error, Exception) else None


def _gone(what: str, error: Exception) -> EngineError:
    return EngineError(f"{what}: the Docker Engine hung up ({type(error).__name__} {error})")


def _head(target: str, headers: Mapping[str, str], with_body: bool) -> bytes:
    length = "Transfer-Encoding: chunked" if with_body else "Content-Length: 0"
    lines = [f"POST {target} HTTP/1.1", "Host: docker", "Connection: close", length]
    lines += ["Content-Type: application/x-tar"] if with_body else []
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


async def _send(
    writer: asyncio.StreamWriter, head: bytes, body: AsyncIterable[bytes] | None
) -> None:
    """Write it all. A body that fails takes the connection with it, so that it is not mistaken
    for one that is complete."""
    try:
        writer.write(head)
        if body is not None:
            async for data in body:
                writer.write(b"%x\r\n%b\r\n" % (len(data), data) if data else b"")
                await writer.drain()
            writer.write(LAST_CHUNK)
        await writer.drain()
    except ConnectionError:
        pass  # the engine has refused before it read everything; its answer says why
    except BaseException:
        writer.transport.abort()
        raise


class _Response:
    """An answer of which the head has been read."""

    def __init__(self, reader: asyncio.StreamReader, what: str, chunked: bool) -> None:
        self._reader = reader
        self._what = what
        self._chunked = chunked

    @classmethod
    async def begin(cls, reader: asyncio.StreamReader, what: str) -> _Response:
        """Read the head; an answer that is not 2xx is an `EngineError`."""
        async with _patience(what):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split(" ", 2)[1])
        response = cls(reader, what, "\r\ntransfer-encoding: chunked" in head)
        if status >= 300:
            text = b"".join([piece async for piece in response._pieces()]).decode(errors="replace")
            raise EngineError(f"{what}: {_message(text)}", status=status)
        return response

    async def objects(self) -> AsyncIterator[dict[str, Any]]:
        """The objects of the body, one a line."""
        rest = b""
        async for piece in self._pieces():
            *lines, rest = (rest + piece).split(b"\n")
            for line in filter(bytes.strip, lines):
                yield json.loads(line)
        if rest.strip():
            yield json.loads(rest)

    async def _pieces(self) -> AsyncIterator[bytes]:
        while True:
            async with _patience(self._what):
                piece = await (self._chunk() if self._chunked else self._reader.read(HEAD_LIMIT))
            if not piece:
                return
            yield piece

    async def _chunk(self) -> bytes:
        size = int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16)
        return (await self._reader.readexactly(size + 2))[:-2]


def _message(text: str) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(text)["message"])
    return text.strip()


@contextlib.asynccontextmanager
async def _patience(what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(QUIET):
            yield
    except TimeoutError:
        raise EngineError(f"{what}: the Docker Engine said nothing for {QUIET:g} s") from None


async def _open(endpoint: Endpoint, what: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader = asyncio.StreamReader(limit=HEAD_LIMIT)
    transport, protocol = await dial(endpoint, what, lambda: asyncio.StreamReaderProtocol(reader))
    return reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
