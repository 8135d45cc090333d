"""A script served as a model's service on a loopback socket, with faults on order.

::

    async with ModelServer([{"text": "Hello."}], faults=[Status(code=500)]) as server:
        model = OpenAIModel(base_url=server.base_url, api_key=server.api_key)

It speaks OpenAI's chat completions and responses and Anthropic's messages, each at its own path
and with its own shape of errors: the same script and the same faults serve all. ``GET /v1/models``
lists `models`, in the shape of the service whose headers the request carries, and
``POST /v1/messages/count_tokens`` counts; both take no turn of the script. A client that does not
carry the token that the server made for itself is refused.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol, assert_never

from paddock.runtime.core.model import ModelRequest
from paddock.runtime.models.scripted import Script, ScriptedModel
from paddock.testing import _completions, _messages, _responses
from paddock.testing._http import Connection, HangUp, Message

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
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
    """Send an error object in the stream instead of what comes after `after` events.

    `kind` is Anthropic's name for it; OpenAI's protocol has none.
    """

    after: int = 0
    kind: str = "overloaded_error"
    message: str = "the script wants it so"


@dataclass(frozen=True, kw_only=True)
class Body:
    """Answer with exactly this, whole."""

    content: bytes
    content_type: str = "text/event-stream"


class _Protocol(Protocol):
    """How a service is spoken to. A request is its body; `number` tells answers apart."""

    def conversation(self, request: dict[str, Any]) -> list[dict[str, Any]]: ...

    def stream(
        self, turn: ScriptedTurn, request: dict[str, Any], number: int
    ) -> Iterator[bytes]: ...

    def whole(self, turn: ScriptedTurn, request: dict[str, Any], number: int) -> dict[str, Any]: ...

    def listed(self, models: Sequence[str]) -> dict[str, Any]: ...

    def error(self, message: str, status: int) -> dict[str, Any]: ...

    def error_event(self, message: str, kind: str) -> bytes: ...


_PROTOCOLS: dict[str, _Protocol] = {
    "POST /v1/chat/completions": _completions,
    "POST /v1/responses": _responses,
    "POST /v1/messages": _messages,
}
_MODELS = "GET /v1/models"
_COUNT = "POST /v1/messages/count_tokens"

Fault = Status | Reset | Stall | Cut | StreamError | Body


@dataclass(kw_only=True)
class RecordedRequest:
    """A request that carried the token. Header names are in lower case."""

    headers: dict[str, str]
    body: dict[str, Any]
    client: tuple[str, int]
    """The address it came from: the same for requests that share a connection."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the client went away before its answer was complete."""


class ModelServer:
    """Serves `script`; the n-th request meets the n-th of `faults`, unless that is None.

    Between the events of a stream it waits `gap` seconds. `models` are the names that it lists;
    a request may name any other. Takes connections from entering to leaving, on `port` of the
    loopback (0: a free one); leaving ends those that are open. `api_key` is the token that a
    request has to carry; without it a random one is made.
    """

    def __init__(
        self,
        script: Script | ScriptedModel,
        *,
        faults: Iterable[Fault | None] = (),
        gap: float = 0.0,
        models: Sequence[str] = ("scripted",),
        port: int = 0,
        api_key: str | None = None,
    ) -> None:
        self._model = script if isinstance(script, ScriptedModel) else ScriptedModel(script)
        self._faults = list(faults)
        self._gap = gap
        self._models = tuple(models)
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._port = port
        self.api_key = api_key or secrets.token_urlsafe(16)
        self.base_url = ""
        self.requests: list[RecordedRequest] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", self._port, backlog=1024
        )
        port = self._server.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(Connection(reader, writer)))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, connection: Connection) -> None:
        try:
            while (message := await connection.read_request()) is not None:
                await self._admit(connection, message)
        except (ConnectionError, asyncio.IncompleteReadError, HangUp):
            return  # the client is gone, or we hang up on it
        finally:
            await connection.aclose()

    async def _admit(self, connection: Connection, message: Message) -> None:
        target = message.target.partition("?")[0]
        protocol = _PROTOCOLS.get(target) or _spoken_by(message.headers)
        if not hmac.compare_digest(_token(message.headers).encode(), self.api_key.encode()):
            return await _refuse(connection, protocol, 401, "no valid token")
        if target == _MODELS:
            return await connection.send_json(200, protocol.listed(self._models))
        if target not in _PROTOCOLS and target != _COUNT:
            return await _refuse(connection, protocol, 404, f"there is no {target}")
        try:
            body = _read_body(message.body)
        except ValueError as error:
            return await _refuse(connection, protocol, 400, str(error))
        if target == _COUNT:
            return await _count(connection, body)
        request = RecordedRequest(headers=message.headers, body=body, client=connection.client)
        fault = self._faults[len(self.requests)] if len(self.requests) < len(self._faults) else None
        self.requests.append(request)
        try:
            await self._answer(connection, protocol, request, fault)
        except (ConnectionError, asyncio.IncompleteReadError):
            request.left.set()
            raise
        return None

    async def _answer(
        self,
        connection: Connection,
        protocol: _Protocol,
        request: RecordedRequest,
        fault: Fault | None,
    ) -> None:
        match fault:
            case Status():
                wait = fault.retry_after
                headers = {} if wait is None else {"Retry-After": str(wait)}
                await _refuse(connection, protocol, fault.code, fault.message, **headers)
            case Reset():
                connection.reset()
            case Stall(after=None):
                await connection.hang()
            case Body():
                await connection.send(200, fault.content, fault.content_type)
            case Stall() | Cut() | StreamError() | None:
                await self._answer_from_script(connection, protocol, request, fault)
            case _:
                assert_never(fault)

    async def _answer_from_script(
        self,
        connection: Connection,
        protocol: _Protocol,
        request: RecordedRequest,
        fault: Stall | Cut | StreamError | None,
    ) -> None:
        try:
            messages = protocol.conversation(request.body)
            turn = self._model.turn(ModelRequest(model=request.body["model"], messages=messages))
        except Exception as error:
            # Functions in a script may raise anything. 400: the client does not try again.
            return await _refuse(connection, protocol, 400, f"{type(error).__name__}: {error}")
        if turn.delay:
            await connection.pause(turn.delay)
        if turn.error is not None and turn.status is not None:
            return await _refuse(connection, protocol, turn.status, turn.error)
        number = len(self.requests)
        if not request.body.get("stream"):
            return await connection.send_json(200, protocol.whole(turn, request.body, number))
        body = list(protocol.stream(turn, request.body, number))
        return await self._send_stream(connection, _with_fault(protocol, body, turn, fault), fault)

    async def _send_stream(
        self,
        connection: Connection,
        body: list[bytes],
        fault: Stall | Cut | StreamError | None,
    ) -> None:
        await connection.begin_stream()
        for part in body:
            if self._gap:
                await connection.pause(self._gap)
            await connection.send_chunk(part)
        match fault:
            case Stall():
                await connection.hang()
            case Cut():
                raise HangUp("a cut was asked for")
            case StreamError() | None:
                await connection.end_stream()


def _spoken_by(headers: dict[str, str]) -> _Protocol:
    """The protocol of the client that sent these headers, at a path that several have."""
    return _messages if "anthropic-version" in headers else _completions


def _read_body(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except ValueError as error:
        raise ValueError(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise ValueError(f"the body is not a JSON object, but {type(body).__name__}")
    return body


async def _count(connection: Connection, body: dict[str, Any]) -> None:
    try:
        counted = _messages.counted(body)
    except Exception as error:  # as in `_answer_from_script`
        await _refuse(connection, _messages, 400, f"{type(error).__name__}: {error}")
    else:
        await connection.send_json(200, counted)


def _token(headers: dict[str, str]) -> str:
    return headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")


async def _refuse(
    connection: Connection, protocol: _Protocol, status: int, message: str, **headers: str
) -> None:
    await connection.send_json(status, protocol.error(message, status), **headers)


def _with_fault(
    protocol: _Protocol,
    body: list[bytes],
    turn: ScriptedTurn,
    fault: Stall | Cut | StreamError | None,
) -> list[bytes]:
    match fault:
        case StreamError():
            return [*body[: fault.after], protocol.error_event(fault.message, fault.kind)]
        case Stall() | Cut():
            return _first_bytes(body, fault.after or 0)
        case None:
            if turn.error is None:
                return body
            return [protocol.error_event(turn.error, "invalid_request_error")]


def _first_bytes(body: list[bytes], count: int) -> list[bytes]:
    ends = accumulate(map(len, body))
    parts = [part[: max(0, count - end + len(part))] for part, end in zip(body, ends, strict=True)]
    return [part for part in parts if part]
