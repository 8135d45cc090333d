"""The allow-list proxy: every connection is one request, checked, answered, and over.

A request is let through if its host and port are listed; a name is looked up once, here,
and the connection goes to an address that was checked. It does not know how
connections come to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING

import h11

from paddock.backends.egress.http import (
    Refused,
    RequestReader,
    answer,
    answer_head,
    to_server,
)
from paddock.backends.egress.outside import Outside, is_closed
from paddock.backends.guest.relay import relay
from paddock.network import NetworkDecision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.backends.egress.http import Request
    from paddock.backends.guest.relay import ByteStream
    from paddock.network import Address, Allow

__all__ = ["Proxy"]

HEAD_DEADLINE = 20.0
"""Seconds from a connection's first moment until its request's head is whole."""
LOOKUPS = 4
"""Names that are looked up at once."""
SETTLE_DEADLINE = 2.0
"""Seconds for a client to hang up when all was said."""
LOG_SIZE = 1000
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Proxy:
    """One sandbox's. `log` has its last decisions, oldest first."""

    def __init__(self, allow: Allow, outside: Outside | None = None) -> None:
        self.log: deque[NetworkDecision] = deque(maxlen=LOG_SIZE)
        self._allow = allow
        self._outside = outside or Outside()
        self._lookups = asyncio.Semaphore(LOOKUPS)

    async def serve(self, client: ByteStream) -> None:
        """Serve one connection to its end; the caller closes it.

        Raises `OSError` when it breaks. If cancelled, nothing of it stays.
        """
        reader = RequestReader()
        try:
            request = await _first_request(client, reader)
            addresses = await self._decide(request)
        except Refused as refused:
            self._note(refused.host, refused.port, refused.reason, allowed=False)
            await _say_last(client, answer(refused.status, refused.reason))
            return
        try:
            upstream = await self._outside.connect(addresses, request.port)
        except OSError as error:
            await _say_last(client, answer(502, f"no connection to {request.host}: {error}"))
            return
        with contextlib.closing(upstream):
            if request.onward is None:
                await client.send(ESTABLISHED)
                await upstream.send(reader.rest)
                await relay(client, upstream)
            else:
                await _say_last(client, await self._exchange(client, upstream, request, reader))

    def _note(self, host: str, port: int, reason: str, *, allowed: bool) -> None:
        self.log.append(
            NetworkDecision(time=time.time(), host=host, port=port, allowed=allowed, reason=reason)
        )

    # deciding

    async def _decide(self, request: Request) -> Sequence[Address]:
        """The addresses that `request` may be connected to. Raises `Refused`."""
        host, port = request.host, request.port
        entry = self._allow.entry_for(host, port)
        if entry is None:
            raise Refused(403, f"{host}:{port} is not listed", host=str(host), port=port)
        if isinstance(host, str):
            addresses = await self._public_addresses(host, port)
        else:
            self._refuse_by_the_way(host, port, entry)
            addresses = [host]
        self._note(str(host), port, f"listed as {entry}", allowed=True)
        return addresses

    def _refuse_by_the_way(self, address: Address, port: int, entry: str) -> None:
        """Raise `Refused` for an address that is not public, of a listed network that is."""
        network = self._allow.network_of(entry)
        if network is None or is_closed(network):
            return
        if (what := self._outside.objection(address)) is not None:
            reason = f"{address} is {what}, and {entry} lists public addresses; list it by itself"
            raise Refused(403, reason, host=str(address), port=port)

    async def _public_addresses(self, name: str, port: int) -> Sequence[Address]:
        try:
            async with self._lookups:
                found = await self._outside.lookup(name)
        except OSError as error:
            reason = f"{name} cannot be looked up: {error}"
            raise Refused(502, reason, host=name, port=port) from None
        objections = {address: self._outside.objection(address) for address in found}
        public = [address for address, what in objections.items() if what is None]
        if not public:
            told = ", ".join(f"{address} ({what})" for address, what in objections.items())
            raise Refused(403, f"{name} leads to {told or 'nowhere'}", host=name, port=port)
        return public

    # one plain request

    async def _exchange(
        self, client: ByteStream, upstream: ByteStream, request: Request, reader: RequestReader
    ) -> bytes:
        """Ask and answer; return what is still to be said to the client."""
        server = to_server()
        asking = asyncio.ensure_future(self._ask(client, upstream, request, reader, server))
        answering = asyncio.ensure_future(_answer(upstream, client, server))
        try:
            await asyncio.wait([asking, answering], return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                asking.result()
            last = await answering
            await _end(upstream)
            return last
        finally:
            asking.cancel()
            answering.cancel()
            await asyncio.gather(asking, answering, return_exceptions=True)

    async def _ask(
        self,
        client: ByteStream,
        upstream: ByteStream,
        request: Request,
        reader: RequestReader,
        server: h11.Connection,
    ) -> None:
        """Pass on one request and no byte more; then notice when the client goes away."""
        assert request.onward is not None
        to_send, data = server.send(request.onward), b""
        while True:
            try:
                to_send += server.send(h11.Data(data=reader.feed_body(data)))
            except Refused as refused:
                self._note(str(request.host), request.port, refused.reason, allowed=False)
                raise ConnectionAbortedError(refused.reason) from None
            if reader.whole:
                to_send += server.send(h11.EndOfMessage())
            try:
                await upstream.send(to_send)
            except OSError:
                return  # it hung up early: its answer may say why
            to_send, data = b"", await client.receive()
            if reader.whole:
                break
            if not data:
                raise ConnectionAbortedError("the request's body ended early")
        if not data:  # it may have hung up, which a server that keeps connections has to know
            await _end(upstream)


async def _first_request(client: ByteStream, reader: RequestReader) -> Request:
    """Return a request as soon as its head is whole. Raise `Refused`."""
    try:
        async with asyncio.timeout(HEAD_DEADLINE):
            while data := await client.receive():
                request = reader.feed_head(data)
                if request is not None:
                    return request
    except TimeoutError:
        raise Refused(408, f"its head was not whole after {HEAD_DEADLINE:g} s") from None
    raise ConnectionAbortedError("the client hung up before it had asked")


async def _answer(upstream: ByteStream, client: ByteStream, server: h11.Connection) -> bytes:
    """Pass on an answer to its end; return what is still to be said."""
    try:
        beginning = await _beginning_of_answer(upstream, client, server)
    except h11.RemoteProtocolError:
        return answer(502, "what came back is not an answer of HTTP/1")
    await client.send(beginning)
    while data := await upstream.receive():
        await client.send(data)
    return b""


async def _beginning_of_answer(
    upstream: ByteStream, client: ByteStream, server: h11.Connection
) -> bytes:
    """Pass on interim heads; return the last one and what came with it."""
    while not isinstance(event := server.next_event(), h11.Response):
        if isinstance(event, h11.InformationalResponse):
            await client.send(answer_head(event))
        else:
            server.receive_data(await upstream.receive())
    return answer_head(event) + server.trailing_data[0]


async def _end(stream: ByteStream) -> None:
    with contextlib.suppress(OSError):  # it has ended us already
        await stream.send_eof()


async def _say_last(client: ByteStream, data: bytes) -> None:
    """Say it, and wait a while for the client to hang up: a reset could overtake the words."""
    with contextlib.suppress(OSError):
        async with asyncio.timeout(SETTLE_DEADLINE):
            await client.send(data)
            await client.send_eof()
            while await client.receive():
                pass
