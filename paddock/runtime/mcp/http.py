"""Serving any number of clients over Streamable HTTP, in both eras on one address.

A page in a browser of this machine can send requests here, whatever site it is from: the headers
Host and Origin tell. Whoever can reach another address than a loopback one needs a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import uvicorn
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from paddock._concurrency import finish
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mcp.server.lowlevel import Server
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HttpAddress", "serve_over_http"]

STOP_TIMEOUT = 3
"""Seconds that answers under way have to end when the server stops."""

MIN_TOKEN = 16
"""Characters of a token: what is shorter can be found by trying."""

_TOKEN = re.compile(r"[!-~]+")
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+/?|/")
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_MCP_HEADERS = ("mcp-session-id", "mcp-protocol-version")


@dataclass(frozen=True, kw_only=True)
class HttpAddress:
    """Where to serve, and which clients.

    - `allowed_origins`: the pages that may send requests, such as ``https://app.example.org``;
      None are those of this machine, where `host` is a loopback address.
    - `token`: what clients have to send as ``Authorization: Bearer``.

    Raises `ConfigError` for an address, path, origin or token that cannot be, and for an address
    that is no loopback one without a token.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    path: str = "/mcp"
    allowed_origins: Sequence[str] | None = None
    token: str | None = None

    def __post_init__(self) -> None:
        if not _PATH.fullmatch(self.path):
            raise ConfigError(
                f"path {self.path!r}: give one such as /mcp, of ASCII letters, digits and . _ ~ -"
            )
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port {self.port}: give a number up to 65535")
        for origin in self.allowed_origins or ():
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.path:
                raise ConfigError(
                    f"origin {origin!r}: give one such as https://app.example.org, without a path"
                )
        if self.token is not None and len(self.token) < MIN_TOKEN:
            raise ConfigError(f"the token has to have at least {MIN_TOKEN} characters")
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise ConfigError(
                "the token has a character that no header can carry: give one of ASCII letters, "
                "digits and punctuation, without spaces and line ends"
            )
        if self.token is None and not self.is_loopback:
            raise ConfigError(
                f"serving on {self.host}, which others can reach, needs a token: clients send it "
                "as 'Authorization: Bearer TOKEN'"
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine can reach it."""
        return _is_loopback(self.host)

    def admits_host(self, header: str | None) -> bool:
        """Whether a request may say that it is for this host."""
        name = _host_of(f"//{header}") if header else None
        if name is None:
            return False
        if self.is_loopback:
            return name in _LOOPBACK_NAMES or name == self.host.lower()
        return name == self.host.lower() or _is_everywhere(self.host)

    def admits_origin(self, header: str | None) -> bool:
        """Whether a page of this origin may send requests; programs send none."""
        if header is None:
            return True
        if self.allowed_origins is not None:
            return header in self.allowed_origins
        return self.is_loopback and _host_of(header) in _LOOPBACK_NAMES

    def admits_token(self, header: str | None) -> bool:
        """Whether a request has the token, if one is needed."""
        if self.token is None:
            return True
        scheme, _, given = (header or "").partition(" ")
        is_right = hmac.compare_digest(given.strip().encode(), self.token.encode())
        return scheme.lower() == "bearer" and is_right


async def serve_over_http(
    server: Server[Any], address: HttpAddress, *, on_ready: Callable[[str], None] | None = None
) -> None:
    """Serve until this is cancelled. `on_ready` is called with the URL once clients can connect.

    Raises `OSError` for an address that is not available.
    """
    app = server.streamable_http_app(
        streamable_http_path=address.path,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    stopping = asyncio.Event()
    with _listening(address) as listening:
        config = uvicorn.Config(
            _guarded(_ending(app, stopping), address),
            log_config=None,
            access_log=False,
            lifespan="on",
            ws="none",
            proxy_headers=False,
            timeout_graceful_shutdown=STOP_TIMEOUT,
        )
        serving = _Server(config, lambda: _tell(address, listening, on_ready))
        task = asyncio.create_task(serving.serve([listening]), name="MCP over HTTP")
        try:
            await asyncio.shield(task)
        finally:
            stopping.set()
            serving.should_exit = True
            await finish(_ended(task))


async def _ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task])
    task.result()


class _Server(uvicorn.Server):
    """Leaves signals to the program that it is a part of."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()


@contextlib.contextmanager
def _listening(address: HttpAddress) -> Iterator[socket.socket]:
    with contextlib.ExitStack() as stack:
        try:
            family, kind, protocol, _, where = socket.getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listening = stack.enter_context(socket.socket(family, kind, protocol))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(where)
        except OSError as error:
            told = f"cannot serve on {address.host}, port {address.port}: {error.strerror}"
            raise OSError(error.errno, told) from error
        yield listening


def _tell(
    address: HttpAddress, listening: socket.socket, on_ready: Callable[[str], None] | None
) -> None:
    if on_ready is not None:
        host = f"[{address.host}]" if ":" in address.host else address.host
        on_ready(f"http://{host}:{listening.getsockname()[1]}{address.path}")


def _guarded(app: ASGIApp, address: HttpAddress) -> ASGIApp:
    """Return `app` for requests that may come, and with what browsers need for pages that may."""
    inner = app
    if address.allowed_origins:
        inner = CORSMiddleware(
            app,
            allow_origins=list(address.allowed_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=_MCP_HEADERS,
        )

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refused := _refusal(scope, address)) is not None:
            await refused(scope, receive, send)
        else:
            await inner(scope, receive, send)

    return guarded


def _ending(app: ASGIApp, stopping: asyncio.Event) -> ASGIApp:
    """Return `app`, to which it seems from `stopping` on that clients have gone: streams that are
    open for messages of the server would never end."""

    async def ending(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        exchange = _Exchange(receive, send, stopping)
        await app(scope, exchange.receive, exchange.send)
        await exchange.complete(scope)

    return ending


class _Exchange:
    """One request and its response, which is cut short when the server stops."""

    def __init__(self, receive: Receive, send: Send, stopping: asyncio.Event) -> None:
        self._receive = receive
        self._send = send
        self._stopping = stopping
        self._is_begun = self._is_complete = False

    async def receive(self) -> Message:
        coming = asyncio.ensure_future(self._receive())
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait([coming, stop], return_when=asyncio.FIRST_COMPLETED)
            return coming.result() if coming.done() else {"type": "http.disconnect"}
        finally:
            coming.cancel()
            stop.cancel()

    async def send(self, message: Message) -> None:
        self._is_begun = True
        is_body = message["type"] == "http.response.body"
        self._is_complete = is_body and not message.get("more_body", False)
        await self._send(message)

    async def complete(self, scope: Scope) -> None:
        """Answer what was left without an answer because the server stops."""
        if not self._stopping.is_set() or self._is_complete:
            return
        if self._is_begun:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await Response("The server stops", 503)(scope, self._receive, self._send)


def _refusal(scope: Scope, address: HttpAddress) -> Response | None:
    headers = Headers(scope=scope)
    if not address.admits_host(headers.get("host")):
        return Response("This host is not served here", 421)
    if not address.admits_origin(headers.get("origin")):
        return Response("This origin is not allowed", 403)
    if scope["method"] == "OPTIONS":  # a browser asks whether it may; it sends no token
        return None
    if not address.admits_token(headers.get("authorization")):
        return Response("A token is needed", 401, {"WWW-Authenticate": "Bearer"})
    return None


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _is_everywhere(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_unspecified
    return host == ""
