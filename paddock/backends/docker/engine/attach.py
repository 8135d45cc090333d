"""Ways to a container's guest: its stdin and stdout for its maker, a relay for later joiners."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.engine.hijack import STDERR, HijackedStream, open_hijacked
from paddock.backends.guest.inside.seal import HELLO_BYTES
from paddock.backends.guest.inside.wire import JOIN_ADDRESS
from paddock.backends.guest.sealed import SealedStream
from paddock.backends.guest.stderr import printable

if TYPE_CHECKING:
    from paddock.backends.docker.engine.client import Engine
    from paddock.backends.guest.connection import Connection

__all__ = ["AttachedStream", "join_stream", "open_stream"]

LOG_LIMIT = 8 * 1024
"""Bytes kept of what a process of ours says on stderr: a traceback."""
JOIN_DEADLINE = 10.0
"""Seconds for a guest to answer a joiner: Python starts, on a machine that may be busy."""
RELAY = """\
import ctypes, os, select, socket, time
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE

def join(hello):
    until = time.monotonic() + {deadline}
    while time.monotonic() < until:
        guest = socket.socket(socket.AF_UNIX)
        guest.connect({address!r})
        try:
            guest.sendall(hello)
            answer = guest.recv(65536)
        except ConnectionError:
            answer = b""
        if answer:
            write(answer)
            return guest
        guest.close()
        time.sleep(0.01)  # others, which prove nothing, have pushed it out
    os._exit(1)

def write(data):
    while data:
        data = data[os.write(1, data):]

guest = join(os.read(0, {hello}))
while True:
    ready = select.select([0, guest], [], [])[0]
    if 0 in ready:
        data = os.read(0, 65536)
        if not data:
            break
        guest.sendall(data)
    if guest in ready:
        data = guest.recv(65536)
        if not data:
            break
        write(data)
"""
"""What runs inside for a host that joins: it passes on sealed frames, and is not trusted."""


class AttachedStream(HijackedStream):
    """Passes a process's stdout to `client` and keeps the end of its stderr."""

    def __init__(
        self, what: str, engine: Engine, path: str, client: asyncio.Protocol, body: bytes = b""
    ) -> None:
        super().__init__(what, engine, path, body)
        self._client = client
        self._log = bytearray()

    @property
    def log(self) -> str:
        """The end of what the process said on stderr."""
        return printable(bytes(self._log))

    def on_open(self, transport: asyncio.Transport) -> None:
        self._client.connection_made(transport)

    def on_output(self, stream: int, data: bytes) -> None:
        if stream == STDERR:
            self._log += data
            del self._log[:-LOG_LIMIT]
        else:
            self._client.data_received(data)

    def on_end(self, error: Exception | None) -> None:
        self._client.connection_lost(error)


async def open_stream(engine: Engine, container: str, client: asyncio.Protocol) -> AttachedStream:
    """Attach `client` to a container's first process; returns when the engine has agreed.

    Raises `EngineError`. If cancelled, the connection is closed.
    """
    what = "attaching to a container"
    path = f"/containers/{container}/attach?stream=1&stdin=1&stdout=1&stderr=1"
    return await open_hijacked(engine, what, lambda: AttachedStream(what, engine, path, client))


async def join_stream(
    engine: Engine, container: str, connection: Connection, token: str, *, user: str | None
) -> AttachedStream:
    """Connect to the guest that a container has, by its join token.

    `user` runs the relay: with the rights of commands, which may have replaced its Python.

    Returns when the guest has answered. Raises `EngineError`. If cancelled, the connection is
    closed, and with it the relay.
    """
    what = "joining a container's guest"
    program = RELAY.format(address=JOIN_ADDRESS, hello=HELLO_BYTES, deadline=JOIN_DEADLINE / 2)
    argv = ["python3", "-I", "-S", "-c", program]
    made = await engine.call(
        what, engine.client.exec_create, container, argv, stdin=True, user=user or ""
    )
    path, body = f"/exec/{made['Id']}/start", b'{"Detach": false, "Tty": false}'
    sealed = SealedStream(connection, token)
    stream = await open_hijacked(
        engine, what, lambda: AttachedStream(what, engine, path, sealed, body)
    )
    try:
        async with asyncio.timeout(JOIN_DEADLINE):
            answered = await sealed.ready
    except BaseException as error:
        sealed.abort()
        if isinstance(error, TimeoutError):
            raise EngineError(f"{what}: its guest did not answer") from None
        raise
    if not answered:
        raise EngineError(f"{what}: {stream.log or 'its guest hung up'}")
    return stream
