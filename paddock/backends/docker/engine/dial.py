"""Connections to an engine on the event loop, for streams that docker-py would give a thread."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from paddock._concurrency import Interrupted, interruptible
from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.engine.tls import dial_tls

if TYPE_CHECKING:
    from collections.abc import Callable

    from paddock.backends.docker.engine.endpoint import Endpoint

__all__ = ["dial"]

P = TypeVar("P", bound=asyncio.BaseProtocol)

DIAL_TIMEOUT = 30.0
"""Seconds for an engine to accept a connection, over ssh and TLS too: some 2 s on a slow line."""


async def dial(
    endpoint: Endpoint, what: str, factory: Callable[[], P]
) -> tuple[asyncio.Transport, P]:
    """A connection to the engine's API, whichever way it is reached.

    Raises `EngineError`, in which `what` names the purpose.
    """
    try:
        async with asyncio.timeout(DIAL_TIMEOUT):
            return await interruptible(_connect(endpoint, factory))
    except (OSError, Interrupted) as error:  # a timeout is an OSError
        reason = str(error) or f"none accepted the connection within {DIAL_TIMEOUT:g} s"
        raise EngineError(f"{what}: no Docker Engine answers ({reason})") from error


async def _connect(endpoint: Endpoint, factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
    loop = asyncio.get_running_loop()
    url = urlsplit(endpoint.url)
    if url.scheme == "unix":
        return await loop.create_unix_connection(factory, url.path)
    if url.scheme == "ssh":
        return await loop.create_unix_connection(factory, sock=await _dial_ssh(endpoint.url))
    host, port = url.hostname or "localhost", url.port or 2375
    context = await asyncio.to_thread(endpoint.ssl_context)  # it reads files
    if context is None:
        return await loop.create_connection(factory, host, port)
    return await loop.create_unix_connection(factory, sock=await dial_tls(host, port, context))


async def _dial_ssh(url: str) -> socket.socket:
    """The engine's socket at the other end of ssh, as the docker CLI reaches it.

    The ssh client ends with the stream: it has the other end of it as stdin and stdout.
    """
    ours, theirs = socket.socketpair()
    place = urlsplit(url)
    with theirs:
        try:
            await asyncio.create_subprocess_exec(
                "ssh",
                *(["-p", str(place.port)] if place.port else []),
                *(["-l", place.username] if place.username else []),
                *("-T", "--", place.hostname or "", "docker", "system", "dial-stdio"),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
            )
        except BaseException:
            ours.close()
            raise
    return ours
