"""WebSockets that talk and listen at once."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from aiohttp import WSMsgType

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from aiohttp import web

__all__ = ["attend"]


async def attend(
    socket: web.WebSocketResponse,
    sending: Coroutine[object, object, None],
    received: Callable[[bytes], Awaitable[None]],
) -> None:
    """Run `sending` while what the client sends goes to `received`; end with either.

    Listening also answers pings, without which the client gives up.
    """
    tasks = [asyncio.ensure_future(sending), asyncio.ensure_future(_listen(socket, received))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, ConnectionError):
            raise result


async def _listen(
    socket: web.WebSocketResponse, received: Callable[[bytes], Awaitable[None]]
) -> None:
    with contextlib.suppress(ConnectionError):
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                await received(message.data)
            elif message.type is WSMsgType.TEXT:
                await received(message.data.encode())
