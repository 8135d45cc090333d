"""Connections to an engine on the event loop, for streams that docker-py would give a thread."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from paddock.backends.docker.engine import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from paddock.backends.docker.endpoint import Endpoint

__all__ = ["dial"]

P = TypeVar("P", bound=asyncio.BaseProtocol)


async def dial(
    endpoint: Endpoint, what: str, factory: Callable[[], P]
) -> tuple[asyncio.Transport, P]:
    """A connection to the engine's API, whichever way it is reached.

    Raises `EngineError`, in which `what` names the purpose.
    """
    loop = asyncio.get_running_loop()
    place = urlsplit(endpoint.url)
    try:
        if place.scheme == "unix":
            return await loop.create_unix_connection(factory, place.path)
        if place.scheme == "ssh":
            return await loop.create_unix_connection(factory, sock=await _dial_ssh(endpoint.url))
        return await loop.create_connection(
            factory, place.hostname or "localhost", place.port or 2375, ssl=endpoint.ssl_context()
        )
    except OSError as error:
        raise EngineError(f"{what}: no Docker Engine answers ({error})") from error


async def _dial_ssh(url: str) -> socket.socket:
    """The engine's socket at the other end of ssh, as the docker CLI reaches it.

    The ssh client ends with the stream: it has the other end of it as stdin and stdout.
    """
    ours, theirs = socket.socketpair()
    place = urlsplit(url)
    with theirs:
        await asyncio.create_subprocess_exec(
            "ssh",
            *(["-p", str(place.port)] if place.port else []),
            *(["-l", place.username] if place.username else []),
            *("-T", "--", place.hostname or "", "docker", "system", "dial-stdio"),
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
        )
    return ours
