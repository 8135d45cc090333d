"""HTTP/1.1 connections for models: httpx's transport, made for a thousand requests at once.

httpx's own looks at all of its sockets at each request, and gives each piece of a body through a
dozen generators. Here a connection notices when the service closes it, and whatever has come of a
body is one piece. Proxies are left to httpx's own. Knows no model.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import re
import urllib.request
from collections import defaultdict, deque
from typing import TYPE_CHECKING

import h11
import httpx2

from paddock.runtime.models._exchange import encode_head
from paddock.runtime.models._http_connection import HTTPConnection, Stale

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from paddock.runtime.models._http_connection import Origin

__all__ = ["DirectTransport", "HTTPClient", "Post", "proxies"]

IDLE_LIMIT = 30.0
"""Seconds that a connection waits for its next request: most calls of tools take less, and most
services close it later."""

HAPPY_EYEBALLS_DELAY = 0.25
"""Seconds until the next address of a host is tried beside the one before: what RFC 8305 says."""

_ERRNO = re.compile(r"\[Errno (\d+)\] ([^\[]*)")


def proxies() -> dict[str, str]:
    """Return the proxies that the environment names, by scheme."""
    return {scheme: url for scheme, url in urllib.request.getproxies().items() if scheme != "no"}


class HTTPClient(httpx2.AsyncClient):
    """A client with the proxies and certificates of the environment.

    Making one blocks, and raises `ImportError`, `ValueError`, `OSError` and `httpx2.InvalidURL` for
    those that are wrong.
    """

    def __init__(self) -> None:
        self.direct = None if proxies() else DirectTransport(httpx2.create_ssl_context())
        # No bound of its own on connections: its users bound how many requests run.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100)
        super().__init__(transport=self.direct, limits=limits, follow_redirects=True)


class Post:
    """A POST to one address, of which only the body is different each time."""

    def __init__(self, http: HTTPClient, url: httpx2.URL, headers: httpx2.Headers) -> None:
        self._http = http
        request = http.build_request("POST", url, headers=headers)
        del request.headers["Content-Length"]
        self._request = request
        self._origin = _origin(request.url)
        self._head = encode_head("POST", request.url.raw_path, request.headers.raw)[:-2]

    async def send(self, body: Callable[[], bytes], limits: httpx2.Timeout) -> httpx2.Response:
        """Send what `body` returns, which is asked again if it has to be sent again.

        The body of what is returned is not read yet. Raises `httpx2.HTTPError`.
        """
        direct, timeouts = self._http.direct, limits.as_dict()
        if direct is not None:
            whole = functools.partial(self._whole, body)
            response = await direct.exchange(self._origin, whole, timeouts)
            if not response.has_redirect_location:
                return response
            await response.aclose()
        given = self._request
        request = httpx2.Request(
            "POST",
            given.url,
            headers=given.headers,
            content=body(),
            extensions={"timeout": timeouts},
        )
        return await self._http.send(request, stream=True)

    def _whole(self, body: Callable[[], bytes]) -> bytes:
        content = body()
        return b"%sContent-Length: %d\r\n\r\n%s" % (self._head, len(content), content)


class DirectTransport(httpx2.AsyncBaseTransport):
    """Sends requests over connections of its own, without a proxy, in one event loop.

    As httpx's own it takes the timeouts `connect` and `read` of a request, and raises
    `httpx2.TransportError`s. Cancelled, the connection is closed.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        context.set_alpn_protocols(["http/1.1"])
        self._context = context
        self._connections: set[HTTPConnection] = set()
        self._idle: dict[Origin, deque[HTTPConnection]] = defaultdict(
            deque
        )  # the longest idle first
        self._sweeping: asyncio.TimerHandle | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See `httpx2.AsyncBaseTransport`."""
        content = await request.aread()
        try:
            head = encode_head(request.method, request.url.raw_path, request.headers.raw)
        except h11.LocalProtocolError as error:
            raise httpx2.LocalProtocolError(str(error)) from error
        timeouts = request.extensions.get("timeout", {})
        return await self.exchange(_origin(request.url), lambda: head + content, timeouts)

    async def exchange(
        self, origin: Origin, whole: Callable[[], bytes], timeouts: Mapping[str, float | None]
    ) -> httpx2.Response:
        """Send the request that `whole` returns; the body of what is returned is not read yet.

        A connection that the service had closed while it was idle is no error.
        """
        connection = self._take(origin)
        if connection is not None:
            try:
                return await connection.send(whole, timeouts.get("read"))
            except Stale:
                pass
        connection = await self._connect(origin, timeouts.get("connect"))
        return await connection.send(whole, timeouts.get("read"))

    async def aclose(self) -> None:
        for connection in list(self._connections):
            connection.close()
        if self._sweeping is not None:
            self._sweeping.cancel()

    def keep(self, connection: HTTPConnection) -> None:
        """Have `connection` wait for its next request."""
        self._idle[connection.origin].append(connection)
        if self._sweeping is None:
            self._sweep_later()

    def forget(self, connection: HTTPConnection) -> None:
        """`connection` is closed."""
        self._connections.discard(connection)

    def _take(self, origin: Origin) -> HTTPConnection | None:
        """A connection that waits: the last one that came, since others may be closed by then."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.is_usable():
                return connection
            connection.close()
        return None

    async def _connect(self, origin: Origin, limit: float | None) -> HTTPConnection:
        scheme, host, port = origin
        secure = scheme == "https"
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limit):
                _, connection = await loop.create_connection(
                    lambda: HTTPConnection(self, origin),
                    host,
                    port or (443 if secure else 80),
                    ssl=self._context if secure else None,
                    happy_eyeballs_delay=None if _is_address(host) else HAPPY_EYEBALLS_DELAY,
                )
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(f"no connection within {limit} s") from error
        except (OSError, UnicodeError) as error:  # the latter of a name that no host can have
            raise httpx2.ConnectError(str(error)) from _apart(error)
        self._connections.add(connection)
        return connection

    def _sweep_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_later(IDLE_LIMIT / 2, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close what has been idle for too long."""
        self._sweeping = None
        oldest = loop.time() - IDLE_LIMIT
        for idle in self._idle.values():
            while idle and idle[0].idle_since < oldest:
                idle.popleft().close()
        if any(self._idle.values()):
            self._sweep_later()


def _origin(url: httpx2.URL) -> Origin:
    return url.scheme, url.host, url.port


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _apart(error: Exception) -> BaseException:
    """`error` as a group, if it is asyncio's one error for several addresses of a host."""
    found = _ERRNO.findall(str(error)) if str(error).startswith("Multiple exceptions:") else []
    each = [OSError(int(number), told.rstrip(", ")) for number, told in found]
    return ExceptionGroup("no address of the host took the connection", each) if each else error
