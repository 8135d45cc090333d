"""Requests that take minutes: bytes go up, JSON objects come down, on the event loop.

Builds, pulls and imports are such requests. None of them holds a thread, and one that is
cancelled closes its connection, which tells the engine to stop. What is
asked for is not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import h11

from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.engine.dial import dial

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping

    from paddock.backends.docker.engine.client import Engine
    from paddock.backends.docker.engine.endpoint import Endpoint

__all__ = ["message_in", "post"]

QUIET = 1800.0
"""Seconds in which an engine says nothing: a compiler in a build may be as silent, no longer."""
PIECE = 64 * 1024
"""Bytes that are read at once."""


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
    left, the connection is closed and `body` is no longer read.
    """
    reader, writer = await _open(engine.endpoint, what)
    http = h11.Connection(h11.CLIENT)
    target = f"/v{engine.version}{path}?{urlencode(query)}"
    request = _request(target, headers or {}, with_body=body is not None)
    upload = asyncio.create_task(_send(writer, http, request, body))
    try:
        async with contextlib.aclosing(_objects(reader, http, upload, what)) as objects:
            yield objects
    finally:
        upload.cancel()
        writer.transport.abort()
        await asyncio.wait([upload])


async def _objects(
    reader: asyncio.StreamReader, http: h11.Connection, upload: asyncio.Task[None], what: str
) -> AsyncGenerator[dict[str, Any]]:
    try:
        async for found in _answer(reader, http, what):
            yield found
    except (h11.RemoteProtocolError, OSError) as error:
        raise await _cause(upload) or _gone(what, error) from None


async def _answer(
    reader: asyncio.StreamReader, http: h11.Connection, what: str
) -> AsyncIterator[dict[str, Any]]:
    """The objects of the answer, one a line. One that is not 2xx is an `EngineError`."""
    status, rest = 0, b""
    while not isinstance(event := await _next_event(reader, http, what), h11.EndOfMessage):
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            rest += event.data
        if 0 < status < 300:
            *lines, rest = rest.split(b"\n")
            for line in filter(bytes.strip, lines):
                yield json.loads(line)
    if status >= 300:
        raise EngineError(f"{what}: {message_in(rest)}", status=status)
    if rest.strip():
        yield json.loads(rest)


async def _next_event(reader: asyncio.StreamReader, http: h11.Connection, what: str) -> object:
    while (event := http.next_event()) is h11.NEED_DATA:
        async with _patience(what):
            http.receive_data(await reader.read(PIECE))
    return event


async def _cause(upload: asyncio.Task[None]) -> Exception | None:
    """What the body raised, when that is why there is no answer."""
    upload.cancel()
    await asyncio.wait([upload])
    error = None if upload.cancelled() else upload.exception()
    return error if isinstance(error, Exception) else None


def _gone(what: str, error: Exception) -> EngineError:
    return EngineError(f"{what}: the Docker Engine hung up ({type(error).__name__} {error})")


def _request(target: str, headers: Mapping[str, str], *, with_body: bool) -> h11.Request:
    body = {"Transfer-Encoding": "chunked", "Content-Type": "application/x-tar"}
    fields = body if with_body else {"Content-Length": "0"}
    fields |= {"Host": "docker", "Connection": "close", **headers}
    return h11.Request(method="POST", target=target, headers=list(fields.items()))


async def _send(
    writer: asyncio.StreamWriter,
    http: h11.Connection,
    request: h11.Request,
    body: AsyncIterable[bytes] | None,
) -> None:
    """Write it all. A body that fails takes the connection with it, so that it is not mistaken
    for one that is complete."""
    try:
        writer.write(http.send(request))
        if body is not None:
            async for data in body:
                writer.write(http.send(h11.Data(data=data)))
                await writer.drain()
        writer.write(http.send(h11.EndOfMessage()))
        await writer.drain()
    except ConnectionError:
        pass  # the engine has refused before it read everything; its answer says why
    except BaseException:
        writer.transport.abort()
        raise


def message_in(body: bytes) -> str:
    """Return what an engine says in the body of an answer that refuses something."""
    text = body.decode(errors="replace")
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
    reader = asyncio.StreamReader(limit=PIECE)
    transport, protocol = await dial(endpoint, what, lambda: asyncio.StreamReaderProtocol(reader))
    return reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
