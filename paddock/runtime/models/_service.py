"""What the clients of all services have in common: connections, attempts, retries, time.

A provider's package gives authentication and connections; it makes one attempt at a time.
When to try again is decided here, so that it can be told and cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import random
import re
import socket
import ssl
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import httpx2

from paddock.errors import ConfigError
from paddock.runtime.core.model import (
    ModelEvent,
    ModelRequest,
    ModelRetry,
    ReasoningDelta,
    TextDelta,
    Usage,
    UsageSoFar,
)
from paddock.runtime.core.overflow import is_overflow
from paddock.runtime.models import pricing
from paddock.runtime.models._failure import Failure, failure_of_response
from paddock.runtime.models._history import quirk_in, repaired
from paddock.runtime.models._reply import Reply, described, encode_json
from paddock.runtime.models._shared import Shared
from paddock.runtime.models._transport import HTTPClient, Post, proxies

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Hashable, Iterator, Mapping

    from paddock.runtime.core.model import ModelResponse
    from paddock.runtime.models._building import Builder
    from paddock.runtime.models._endpoint import Endpoint

__all__ = [
    "DEFAULT_IDLE_TIMEOUT",
    "DEFAULT_MAX_RETRIES",
    "DEFAULT_TIMEOUT",
    "Connection",
    "ServiceModel",
]

DEFAULT_MAX_RETRIES = 8
DEFAULT_TIMEOUT = 600.0
"""Seconds until the answer begins: thinking models send nothing for minutes, as OpenAI's and
Anthropic's own clients allow."""
DEFAULT_IDLE_TIMEOUT = 300.0
"""Seconds without a byte once the answer has begun: some services hold a long tool call back
until it is whole."""

CONNECT_TIMEOUT = 30.0
"""Seconds for a connection: a handshake that takes longer will not come."""

MOST_BEHIND_PROXY = 64
"""Users of one connection through a proxy, which is httpx's own. That looks at all sockets that it
has open at each request: a thousand users of one would spend almost half of their time on it."""

_FIRST_WAIT = 0.5
_LONGEST_WAIT = 8.0  # seconds between attempts, unless the service asks for another time

_OPTIONAL = frozenset(
    {
        *("stream_options", "parallel_tool_calls", "service_tier", "reasoning_effort", "store"),
        *("seed", "include"),
    }
)
"""Fields of a request that change no meaning of the answer: left out where they are refused."""

_RENAMED = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}

_CONNECTION_HELP = "check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY and SSL_CERT_FILE"


@dataclass(eq=False)
class Connection:
    """A provider's client, which sends by `http`, and what was learnt about the service behind it.

    `refused` has the fields of requests that a model refused, `quirks` what it wants of
    histories. `posts` has what requests have in common but for their bodies.
    """

    client: Any
    http: HTTPClient
    has_answered: bool = False
    posts: dict[Hashable, Post] = field(default_factory=dict)
    refused: dict[str, set[str]] = field(default_factory=dict)
    quirks: dict[str, set[str]] = field(default_factory=dict)

    async def aclose(self) -> None:
        await self.client.close()
        await asyncio.sleep(0)  # asyncio closes the sockets in the next round of the loop


class ServiceModel(ABC):
    """A `ModelClient` for one service. Its connection is shared; see `Shared`."""

    def __init__(
        self, endpoint: Endpoint, *, timeout: float, idle_timeout: float, max_retries: int
    ) -> None:
        self.endpoint = endpoint
        self.timeout = timeout
        self.idle_timeout = idle_timeout
        self.max_retries = max_retries
        most_users = MOST_BEHIND_PROXY if proxies() else math.inf
        self._connection = Shared(endpoint, self._open, most_users=most_users)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """See `ModelClient.stream`."""
        connection = await self._connection.get()
        attempt = 0
        while True:
            has_said = False
            try:
                async with (
                    await self._begin(connection, request) as reply,
                    contextlib.aclosing(_read(reply)) as events,
                ):
                    async for event in events:
                        has_said |= isinstance(event, TextDelta)
                        yield event
            except Failure as failure:
                error = failure.as_model_error()
                if has_said:
                    raise error from failure
                if self._do_without(connection, request, failure):
                    continue
                passing = failure.is_passing and not is_overflow(error)
                if not passing or attempt >= self.max_retries:
                    raise error from failure
                attempt += 1
                retry = ModelRetry(
                    reason=failure.summary,
                    wait=_wait(failure, attempt),
                    attempt=attempt,
                    limit=self.max_retries,
                    status=failure.status,
                )
            else:
                assert reply.response is not None, "it was read to its end"
                yield await self._complete(reply.response, request, reply.headers)
                return
            yield retry
            await asyncio.sleep(retry.wait)

    async def aclose(self) -> None:
        """See `ModelClient.aclose`."""
        await self._connection.aclose()

    @abstractmethod
    def _make_client(self, http: httpx2.AsyncClient) -> Any:
        """Return a client of `sdk` that sends by `http` and never retries."""

    @abstractmethod
    async def _post(
        self,
        connection: Connection,
        request: ModelRequest,
        body: Callable[[], bytes],
        limits: httpx2.Timeout,
    ) -> httpx2.Response:
        """Send `request` as the `body` returns it; the response's body is not read yet, if it is
        no error. While the service thinks, no long body is held in memory."""

    @abstractmethod
    def _body(self, request: ModelRequest) -> dict[str, Any]: ...

    @abstractmethod
    def _answer(self, request: ModelRequest) -> Builder: ...

    def _first_timeout(self, request: ModelRequest) -> float:
        """Seconds until the answer has to begin."""
        return request.timeout or self.timeout

    async def _open(self) -> Connection:
        # TLS settings are read from the disk, and a package may look for credentials there.
        return await asyncio.to_thread(self._connect)

    def _connect(self) -> Connection:
        try:
            http = HTTPClient()
        except (ImportError, ValueError, OSError, httpx2.InvalidURL) as error:
            raise ConfigError(
                f"no connection to a model can be made: {described(error)}; {_CONNECTION_HELP}"
            ) from error
        return Connection(self._make_client(http), http)

    async def _begin(self, connection: Connection, request: ModelRequest) -> Reply:
        """Send the request, and return the answer once it is on its way."""
        quirks = connection.quirks.get(request.model, set())
        messages = repaired(request.messages, quirks)
        fit = replace(request, messages=messages)
        fields = _without(self._body(fit), connection.refused.get(request.model))
        first = self._first_timeout(request)
        idle = request.idle_timeout or min(self.idle_timeout, first)
        limits = httpx2.Timeout(max(first, idle), connect=min(first, CONNECT_TIMEOUT), pool=None)
        try:
            body = functools.partial(encode_json, fields)
            http = await self._post(connection, request, body, limits)
            if http.status_code >= 400:
                await http.aread()
        except Exception as error:
            raise self._failure_of(connection, error, first) from error
        connection.has_answered = True
        if http.status_code >= 400:
            raise failure_of_response(http.status_code, http.headers, http.content)
        return Reply(http, self._answer(request), first=first, idle=idle)

    def _failure_of(self, connection: Connection, error: Exception, first: float) -> Failure:
        """Return what an error of httpx, or one of the provider's package that it led to, means."""
        causes = [error, *_causes(error)]
        lost = next((cause for cause in causes if isinstance(cause, httpx2.TransportError)), None)
        if lost is None:
            return Failure(described(error))
        if any(isinstance(cause, httpx2.ReadTimeout) for cause in causes):
            # Not tried again: a model that thinks would be asked, and paid, twice.
            return Failure(
                f"timeout: no answer within {first:g} s; `timeout` sets how long to wait"
            )
        told = described(lost)
        passing = not any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes)
        if any(isinstance(cause, ConnectionRefusedError | socket.gaierror) for cause in causes):
            # A service that never answered is a wrong address, not one that starts again.
            passing = connection.has_answered
            told = f"{told} ({self.endpoint.base_url or 'the default address'})"
        return Failure(told, is_passing=passing, summary="no connection")

    def _do_without(self, connection: Connection, request: ModelRequest, failure: Failure) -> bool:
        """Whether the service refused something that it can be asked without from now on."""
        if failure.status not in (400, 422, 500):
            return False
        quirks = connection.quirks.setdefault(request.model, set())
        quirk = quirk_in(str(failure))
        if quirk is not None and quirk not in quirks:
            quirks.add(quirk)
            return True
        refused = connection.refused.setdefault(request.model, set())
        sent = _without(self._body(request), refused)
        named = [name for name in sent if re.search(rf"\b{name}\b", str(failure))]
        for name in named:
            if name in _OPTIONAL or (
                name in _RENAMED and re.search(rf"\b{_RENAMED[name]}\b", str(failure))
            ):
                refused.add(name)
                return True
        return False

    async def _complete(
        self, response: ModelResponse, request: ModelRequest, headers: Mapping[str, str]
    ) -> ModelResponse:
        """`response` with what it cost, and the name of the service."""
        if response.opaque:
            response = replace(response, opaque={"service": self._name, **response.opaque})
        return await pricing.priced(response, request, headers)

    @property
    def _name(self) -> str:
        """The service that may get back what it sent."""
        return self.endpoint.base_url or self.endpoint.service


def _without(body: dict[str, Any], refused: set[str] | None) -> dict[str, Any]:
    """`body` without the fields that were refused, or under their other names."""
    if not refused:
        return body
    left = {name: value for name, value in body.items() if name not in refused}
    for name, other in _RENAMED.items():
        if name in body and name in refused and other not in refused:
            left[other] = body[name]
    return left


async def _read(reply: Reply) -> AsyncGenerator[ModelEvent, None]:
    """Yield what comes before the whole answer."""
    text = await reply.read()
    if reply.response is None and reply.counted != Usage():
        yield UsageSoFar(usage=reply.counted)
    while (thought := reply.take_thought()) or text:
        if thought:
            yield ReasoningDelta(text=thought)
        if text:
            yield TextDelta(text=text)
        text = await reply.read()


def _wait(failure: Failure, attempt: int) -> float:
    """Seconds until retry number `attempt`: as the service asks, or growing, with jitter."""
    if failure.wait is not None:
        return failure.wait
    longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (attempt - 1))
    return longest * random.uniform(0.75, 1.0)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What `error` came from, the nearest first, without itself."""
    seen = {id(error)}
    todo = [error.__cause__ or error.__context__]
    while todo:
        cause = todo.pop(0)
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        todo.append(cause.__cause__ or cause.__context__)
        if isinstance(cause, BaseExceptionGroup):
            todo += cause.exceptions
