"""Streams through TLS as plain sockets: a thread of the library encrypts what passes.

asyncio's TLS may be written to by its loop's thread alone, and a heartbeat has to go out while
that thread is held up. So the far end of a socket pair and the TLS connection are served by an
event loop in a thread of its own, one for the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

__all__ = ["dial_tls"]

PIECE = 256 * 1024


async def dial_tls(host: str, port: int, context: ssl.SSLContext) -> socket.socket:
    """A socket that leads through TLS to `host`. Raises `OSError`.

    It ends in both directions at once: TLS has no end of one direction.
    """
    near, far = socket.socketpair()
    opening = asyncio.run_coroutine_threadsafe(_open(far, host, port, context), _serving_loop())
    try:
        await asyncio.wrap_future(opening)
    except BaseException:
        near.close()  # then the server of the other end closes the rest
        _serving_loop().call_soon_threadsafe(far.close)  # if it is not served yet
        raise
    return near


@functools.lru_cache(maxsize=1)
def _serving_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="paddock-tls", daemon=True).start()
    return loop


_serving: set[asyncio.Task[None]] = set()
"""Held here as a loop holds its tasks weakly."""


async def _open(far: socket.socket, host: str, port: int, context: ssl.SSLContext) -> None:
    """Connect, and have a task serve the connection from then on."""
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    served = socket.socket(fileno=far.detach())
    task = asyncio.ensure_future(_serve(served, reader, writer))
    _serving.add(task)
    task.add_done_callback(_serving.discard)


async def _serve(
    far: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Pass bytes on, both ways, until either end closes."""
    near_reader, near_writer = await asyncio.open_unix_connection(sock=far)
    ways = [
        asyncio.ensure_future(_pass_on(near_reader, writer)),
        asyncio.ensure_future(_pass_on(reader, near_writer)),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.wait(ways)
        near_writer.close()
        writer.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
