"""Passes one HTTP or WebSocket request on to another server, and its answer back.

With a budget the answer is cut after so many bytes. Knows neither the caller nor the content.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["abort", "relay"]

_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "upgrade", "host", "content-length", "te"}
)
_CHUNK = 64 * 1024  # bytes read at a time
_DATA = (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)


def abort(request: web.Request) -> None:
    """Close the connection of `request` once what was written has gone; nothing more goes."""
    if request.transport is not None:
        request.transport.close()


async def relay(
    session: aiohttp.ClientSession,
    request: web.Request,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    budget: int | None = None,
    code: int = 1006,
) -> web.StreamResponse:
    """Answer `request` as `url` does; `headers` are added to what the client sent.

    After `budget` bytes of the body, or of messages, the connection is cut: a WebSocket
    with `code`, where 1006 is to close it without a word. Raises `aiohttp.ClientError` when
    `url` cannot be reached.
    """
    sent = {
        name: value
        for name, value in request.headers.items()
        if name.lower() not in _HOP and not name.lower().startswith("sec-websocket")
    }
    sent.update(headers or {})
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return await _relay_websocket(session, request, url, sent, budget, code)
    return await _relay_http(session, request, url, sent, budget)


async def _relay_http(
    session: aiohttp.ClientSession,
    request: web.Request,
    url: str,
    headers: Mapping[str, str],
    budget: int | None,
) -> web.StreamResponse:
    async with session.request(
        request.method,
        url,
        headers=headers,
        data=await request.read() or None,
        allow_redirects=False,
    ) as upstream:
        response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
        for name, value in upstream.headers.items():
            if name.lower() not in _HOP:
                response.headers.add(name, value)
        response.content_length = upstream.content_length
        await response.prepare(request)
        left = budget
        async for chunk in upstream.content.iter_chunked(_CHUNK):
            await response.write(chunk if left is None else chunk[:left])
            if left is not None and (left := left - len(chunk)) <= 0:
                break
        if budget is None:
            await response.write_eof()
        else:
            abort(request)
        return response


async def _relay_websocket(
    session: aiohttp.ClientSession,
    request: web.Request,
    url: str,
    headers: Mapping[str, str],
    budget: int | None,
    code: int,
) -> web.StreamResponse:
    offered = request.headers.get("Sec-WebSocket-Protocol", "")
    protocols = [each.strip() for each in offered.split(",") if each.strip()]
    async with session.ws_connect(url, headers=headers, protocols=protocols) as upstream:
        chosen = [upstream.protocol] if upstream.protocol else []
        client = web.WebSocketResponse(protocols=chosen)
        await client.prepare(request)
        inward = asyncio.create_task(_pump(client, upstream, None))
        try:
            if await _pump(upstream, client, budget):
                reason = upstream.close_code or 1000
                await client.close(code=reason if reason != 1006 else 1011)
            elif code == 1006:
                abort(request)
            else:
                await client.close(code=code)
        finally:
            inward.cancel()
            await asyncio.wait([inward])
        return client


async def _pump(
    source: aiohttp.ClientWebSocketResponse | web.WebSocketResponse,
    target: aiohttp.ClientWebSocketResponse | web.WebSocketResponse,
    budget: int | None,
) -> bool:
    """Pass messages on until `source` ends; False if the budget was used up before."""
    with contextlib.suppress(ConnectionError):
        async for message in source:
            if message.type not in _DATA:
                continue
            data: str | bytes = message.data if budget is None else message.data[:budget]
            if isinstance(data, str):
                await target.send_str(data)
            else:
                await target.send_bytes(data)
            if budget is not None and (budget := budget - len(message.data)) <= 0:
                return False
    if not target.closed:
        await target.close(code=source.close_code or 1000)
    return True
