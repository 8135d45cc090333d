"""A script served as an OpenAI-compatible service on a loopback socket, with faults on order.

::

    async with ModelServer([{"text": "Hello."}], faults=[Status(code=500)]) as server:
        model = OpenAIModel(base_url=server.base_url, api_key=server.api_key)

Speaks just the HTTP/1.1 that the service needs: requests with a known length, keep-alive,
chunked answers. Whoever does not carry the token that it made for itself is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import secrets
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, assert_never

from paddock.errors import ModelError
from paddock.runtime.models.base import ModelRequest
from paddock.runtime.models.scripted import Script, ScriptedModel
from paddock.testing._completions import completion, event, events

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType
    from typing import Self

    from paddock.runtime.models.scripted import ScriptedTurn

__all__ = [
    "Body",
    "Cut",
    "Fault",
    "ModelServer",
    "RecordedRequest",
    "Reset",
    "Stall",
    "Status",
    "StreamError",
]

_MAX_HEAD = 64 * 1024
_MAX_BODY = 256 * 1024 * 1024  # far above any history; only a wrong length comes near it


@dataclass(frozen=True, kw_only=True)
class Status:
    """Answer with this HTTP status, and with `retry_after` seconds as ``Retry-After``."""

    code: int
    retry_after: float | None = None
    message: str = "the script wants it so"


@dataclass(frozen=True)
class Reset:
    """Reset the connection instead of an answer."""


@dataclass(frozen=True, kw_only=True)
class Stall:
    """Send nothing more after `after` bytes of the body (None: not even a status)."""

    after: int | None = None


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Close the connection after `after` bytes of the body."""

    after: int


@dataclass(frozen=True, kw_only=True)
class StreamError:
    """Send an error object in the stream, in place of what comes after `after` events."""

    after: int = 0
    message: str = "the script wants it so"


@dataclass(frozen=True, kw_only=True)
class Body:
    """Answer with exactly this, whole."""

    content: bytes
    content_type: str = "text/event-stream"


Fault = Status | Reset | Stall | Cut | StreamError | Body


@dataclass(kw_only=True)
class RecordedRequest:
    """A request that carried the token. Header names are in lower case."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client went away before its answer was complete."""


class ModelServer:
    """Serves `script`; the n-th request meets the n-th of `faults`, unless that is None.

    Takes connections from entering to leaving; leaving ends those that are open.
    """

    def __init__(
        self, script: Script | ScriptedModel, *, faults: Iterable[Fault | None] = ()
    ) -> None:
        self._model = script if isinstance(script, ScriptedModel) else ScriptedModel(script)
        self._faults = list(faults)
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.api_key = secrets.token_urlsafe(16)
        self.base_url = ""
        self.requests: list[RecordedRequest] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", 0, limit=_MAX_HEAD, backlog=1024
        )
        port = self._server.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(_Connection(reader, writer)))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, connection: _Connection) -> None:
        try:
            while (message := await connection.read_request()) is not None:
                await self._admit(connection, message)
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the client is gone, or we have hung up on it
        finally:
            await connection.aclose()

    async def _admit(self, connection: _Connection, message: _Message) -> None:
        expected = f"Bearer {self.api_key}".encode()
        if not hmac.compare_digest(message.headers.get("authorization", "").encode(), expected):
            return await connection.send_json(401, _error("no valid token"))
        if message.target != "POST /v1/chat/completions":
            return await connection.send_json(404, _error(f"there is no {message.target}"))
        request = RecordedRequest(
            path=message.target.partition(" ")[2],
            headers=message.headers,
            body=json.loads(message.body),
        )
        fault = self._faults[len(self.requests)] if len(self.requests) < len(self._faults) else None
        self.requests.append(request)
        try:
            await self._answer(connection, request, fault)
        except (ConnectionError, asyncio.IncompleteReadError):
            request.left.set()
            raise
        return None

    async def _answer(
        self, connection: _Connection, request: RecordedRequest, fault: Fault | None
    ) -> None:
        match fault:
            case Status():
                wait = (
                    {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
                )
                await connection.send_json(fault.code, _error(fault.message), **wait)
            case Reset():
                connection.reset()
            case Stall(after=None):
                await connection.hang()
            case Body():
                await connection.send(200, fault.content, fault.content_type)
            case Stall() | Cut() | StreamError() | None:
                await self._answer_from_script(connection, request, fault)
            case _:
                assert_never(fault)

    async def _answer_from_script(
        self,
        connection: _Connection,
        request: RecordedRequest,
        fault: Stall | Cut | StreamError | None,
    ) -> None:
        model, messages = request.body["model"], request.body["messages"]
        try:
            turn = self._model.turn(ModelRequest(model=model, messages=messages))
        except ModelError as error:
            return await connection.send_json(400, _error(str(error)))
        await asyncio.sleep(turn.delay)
        if turn.error is not None and turn.status is not None:
            return await connection.send_json(turn.status, _error(turn.error))
        answer_id = f"chatcmpl-{len(self.requests)}"
        if not request.body.get("stream"):
            return await connection.send_json(
                200, completion(turn, model=model, answer_id=answer_id)
            )
        options = request.body.get("stream_options") or {}
        usage = bool(options.get("include_usage"))
        body = list(events(turn, model=model, answer_id=answer_id, usage=usage))
        return await _send_stream(connection, _with_error(body, turn, fault), fault)


def _with_error(
    body: list[bytes], turn: ScriptedTurn, fault: Stall | Cut | StreamError | None
) -> list[bytes]:
    if isinstance(fault, StreamError):
        return [*body[: fault.after], event(_error(fault.message))]
    if turn.error is not None:
        return [event(_error(turn.error))]
    return body


async def _send_stream(
    connection: _Connection, body: Sequence[bytes], fault: Stall | Cut | StreamError | None
) -> None:
    await connection.begin_stream()
    if not isinstance(fault, Stall | Cut):
        for part in body:
            await connection.send_chunk(part)
        return await connection.end_stream()
    left = fault.after or 0
    for part in body:
        if part[:left]:
            await connection.send_chunk(part[:left])
        left = max(0, left - len(part))
    if isinstance(fault, Stall):
        return await connection.hang()
    raise ConnectionAbortedError("the script wants it so")


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "scripted", "code": None}}


@dataclass(frozen=True, kw_only=True)
class _Message:
    """An HTTP request; `target` is the method and the path."""

    target: str
    headers: dict[str, str]
    body: bytes


class _Connection:
    """One client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read_request(self) -> _Message | None:
        """The next request; None when the client has closed between two of them."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            return None
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        length = int(headers.get("content-length", "0"))
        if length > _MAX_BODY:
            raise ConnectionAbortedError("the request is too long")
        body = await self._reader.readexactly(length)
        return _Message(target=f"{method} {path}", headers=headers, body=body)

    async def send(self, status: int, body: bytes, content_type: str, **headers: str) -> None:
        extra = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = (
            f"HTTP/1.1 {status} Scripted\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\n{extra}\r\n"
        )
        self._writer.write(head.encode("latin-1") + body)
        await self._writer.drain()

    async def send_json(self, status: int, content: dict[str, Any], **headers: str) -> None:
        await self.send(status, json.dumps(content).encode(), "application/json", **headers)

    async def begin_stream(self) -> None:
        self._writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        await self._writer.drain()

    async def send_chunk(self, data: bytes) -> None:
        self._writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self._writer.drain()

    async def end_stream(self) -> None:
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def hang(self) -> None:
        """Wait until the client goes away, and raise."""
        await self._reader.readexactly(1)

    def reset(self) -> None:
        """Close so that the client sees a reset, and raise."""
        linger = struct.pack("ii", 1, 0)  # on, for zero seconds: what makes the kernel send RST
        connection: socket.socket = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()
        raise ConnectionAbortedError("the script wants it so")

    async def aclose(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
