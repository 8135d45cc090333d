"""The stream of a container's first process: its stdout to a guest's client, its stderr kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paddock.backends.docker.hijack import STDERR, HijackedStream, open_hijacked

if TYPE_CHECKING:
    import asyncio

    from paddock.backends.docker.engine import Engine

__all__ = ["AttachedStream", "open_stream"]

LOG_LIMIT = 8 * 1024
"""Bytes kept of what the first process says on stderr: a traceback."""


class AttachedStream(HijackedStream):
    """Passes a container's stdout to `client` and keeps the end of its stderr."""

    def __init__(self, what: str, engine: Engine, container: str, client: asyncio.Protocol) -> None:
        path = f"/containers/{container}/attach?stream=1&stdin=1&stdout=1&stderr=1"
        super().__init__(what, engine, path)
        self._client = client
        self._log = bytearray()

    @property
    def log(self) -> str:
        """The end of what the first process said on stderr."""
        return self._log.decode(errors="replace").strip()

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
    return await open_hijacked(
        engine, what, lambda: AttachedStream(what, engine, container, client)
    )
