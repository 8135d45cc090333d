"""Ways to a container's guest: its stdin and stdout for its maker, a relay for who comes later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paddock.backends.docker.hijack import STDERR, HijackedStream, open_hijacked
from paddock.backends.guest.inside.wire import MEETING
from paddock.backends.guest.stderr import printable

if TYPE_CHECKING:
    import asyncio

    from paddock.backends.docker.engine import Engine

__all__ = ["AttachedStream", "join_stream", "open_stream"]

LOG_LIMIT = 8 * 1024
"""Bytes kept of what a process of ours says on stderr: a traceback."""
RELAY = """\
import os, select, socket
meeting = socket.socket(socket.AF_UNIX)
meeting.connect({meeting!r})
while True:
    ready = select.select([0, meeting], [], [])[0]
    if 0 in ready:
        data = os.read(0, 65536)
        if not data:
            break
        meeting.sendall(data)
    if meeting in ready:
        data = meeting.recv(65536)
        if not data:
            break
        while data:
            data = data[os.write(1, data):]
"""
"""What runs inside for a host that joins: its stdin and stdout are the guest's socket."""


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


async def join_stream(engine: Engine, container: str, client: asyncio.Protocol) -> AttachedStream:
    """Connect `client` to the guest that a container has; it has to `join` with the word.

    Raises `EngineError`. If cancelled, the connection is closed, and with it the relay.
    """
    what = "joining a container's guest"
    argv = ["python3", "-I", "-S", "-c", RELAY.format(meeting=MEETING)]
    made = await engine.call(what, engine.client.exec_create, container, argv, stdin=True)
    path, body = f"/exec/{made['Id']}/start", b'{"Detach": false, "Tty": false}'
    return await open_hijacked(
        engine, what, lambda: AttachedStream(what, engine, path, client, body)
    )
