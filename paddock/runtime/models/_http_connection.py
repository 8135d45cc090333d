"""One connection to a service, for one request at a time, as a protocol of asyncio.

It learns when the service closes it, and gives out at once all that has come of a body.
"""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, Any, Protocol

import httpx2

from paddock.runtime.models._exchange import BadAnswer, Exchange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["HTTPConnection", "Origin", "Pool", "Stale"]

STALE_LIMIT = 5.0
"""Seconds within which a service tells that it had closed a connection when a request was sent on
it: several times what a packet takes around the world. Later it may have begun to answer."""

MAX_UNREAD = 256 * 1024
"""Bytes of an answer that wait to be read before the service has to wait."""

Origin = tuple[str, str, int | None]
"""Scheme, host and port."""


class Pool(Protocol):
    """Where a connection belongs."""

    def keep(self, connection: HTTPConnection) -> None:
        """Have `connection` wait for its next request."""
        ...

    def forget(self, connection: HTTPConnection) -> None:
        """`connection` is closed."""
        ...


class Stale(Exception):
    """The service had closed the connection before the request came there."""


class HTTPConnection(asyncio.Protocol):
    """A connection to a service, for one request at a time."""

    def __init__(self, pool: Pool, origin: Origin) -> None:
        self.origin = origin
        self.idle_since = 0.0
        """When its last answer was complete; 0.0 before the first."""
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._exchange: Exchange | None = None
        self._failure: Exception | None = None
        """Why nothing more comes."""
        self._unread = 0
        self._is_paused = False
        self._waiting: asyncio.Future[None] | None = None
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # What asyncio calls.

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport

    def data_received(self, data: bytes) -> None:
        if self._exchange is None:
            self.close()  # no request is open
            return
        try:
            self._exchange.feed(data)
        except BadAnswer as error:
            self._fail(httpx2.RemoteProtocolError(str(error)))
        self._unread += len(data)
        if self._unread > MAX_UNREAD and not self._is_paused:
            self._transport.pause_reading()
            self._is_paused = True
        self._wake()

    def eof_received(self) -> None:
        self.connection_lost(None)

    def connection_lost(self, error: Exception | None) -> None:
        if error is None and self._exchange is not None:
            try:
                self._exchange.end()
            except BadAnswer as bad:
                self._fail(httpx2.RemoteProtocolError(str(bad)))
        if error is not None:
            self._fail(httpx2.ReadError(str(error)))
        self.close()
        self._wake()

    # What the pool and bodies call.

    def is_usable(self) -> bool:
        """Whether the service has not closed it, as far as the kernel knows."""
        if self._failure is not None:
            return False
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket"), select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        self._fail(httpx2.ReadError("the connection is closed"))
        self._pool.forget(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._transport.abort()

    async def send(self, whole: Callable[[], bytes], limit: float | None) -> httpx2.Response:
        """Send the request that `whole` returns; the body of the answer is not read yet.

        `limit` bounds each wait, in seconds. Raises `Stale` if the service had closed it.
        """
        exchange = self._exchange = Exchange()
        begun = self._loop.time()
        try:
            # Not awaited: nothing is answered before it has gone.
            self._transport.write(whole())
            while exchange.head is None:
                await self._wait(limit)
        except BaseException as error:
            self.close()
            lost = isinstance(error, httpx2.NetworkError | httpx2.RemoteProtocolError)
            quick = self._loop.time() - begun < STALE_LIMIT
            if lost and quick and self.idle_since and not self._unread:
                raise Stale from error
            raise
        return httpx2.Response(
            exchange.head.status_code,
            headers=exchange.head.headers.raw_items(),
            stream=_Body(self, limit),
            extensions={
                "http_version": b"HTTP/" + exchange.head.http_version,
                "reason_phrase": exchange.head.reason,
            },
        )

    async def read(self, limit: float | None) -> tuple[bytes, bool]:
        """Return what has come of the body, and whether that is its end."""
        exchange = self._exchange
        assert exchange is not None, "read after the end"
        while True:
            data = exchange.take()
            self._unread = 0
            if exchange.is_complete:
                self._finish(exchange)
                return data, True
            if data:
                return data, False
            await self._wait(limit)

    def _finish(self, exchange: Exchange) -> None:
        """The answer has come: take the next request, or close."""
        self._exchange = None
        if exchange.keeps_alive and self._failure is None and not self._is_paused:
            self.idle_since = self._loop.time()
            self._pool.keep(self)
        else:
            self.close()

    async def _wait(self, limit: float | None) -> None:
        """Wait for more data, or for the end."""
        if self._failure is not None:
            raise self._failure
        if self._is_paused:
            self._transport.resume_reading()
            self._is_paused = False
        self._waiting = self._loop.create_future()
        if limit is not None:
            self._until = self._loop.time() + limit
            if self._timer is None or self._timer.when() > self._until:
                self._set_timer()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _fail(self, failure: Exception) -> None:
        self._failure = self._failure or failure

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _set_timer(self) -> None:
        """One timer, which rings too early and is set again, serves all waits."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._until, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._waiting is None or self._waiting.done():
            return
        if self._loop.time() < self._until:
            self._set_timer()
        else:
            self._waiting.set_exception(httpx2.ReadTimeout("nothing came"))


class _Body(httpx2.AsyncByteStream):
    """The body of an answer. Closed before its end, its connection is closed."""

    def __init__(self, connection: HTTPConnection, limit: float | None) -> None:
        self._connection: HTTPConnection | None = connection
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._connection is not None:
            try:
                data, is_end = await self._connection.read(self._limit)
            except BaseException:
                await self.aclose()
                raise
            if is_end:
                self._connection = None
            if data:
                yield data

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
