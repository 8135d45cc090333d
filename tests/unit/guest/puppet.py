"""A guest whose frames the test makes, over a transport that is a list: no socket, no process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from paddock.backends.guest.client import GuestClient
from paddock.backends.guest.inside import wire

if TYPE_CHECKING:
    from paddock.backends.guest.connection import Connection

__all__ = ["Puppet", "RecordingTransport"]


class RecordingTransport(asyncio.Transport):
    """Keeps what is written. Has no socket, so everything passes through `write`."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection
        self.written = wire.Frames()
        self.frames: list[tuple[int, int, bytes]] = []
        self.closed = False
        connection.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closed:
            self.frames += self.written.feed(bytes(data))

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)


class Puppet:
    """The guest's end. `say` is heard by the host at once."""

    def __init__(self) -> None:
        self.client = GuestClient()
        self.transport = RecordingTransport(self.client.connect())

    def say(self, kind: int, channel: int, payload: bytes = b"") -> None:
        self.say_bytes(wire.frame(kind, channel, payload))

    def say_bytes(self, data: bytes) -> None:
        self.transport.connection.data_received(data)

    def reply(self, channel: int, body: dict[str, Any], blob: bytes = b"") -> None:
        self.say(wire.REPLY, channel, wire.message(body, blob))

    @property
    def heard(self) -> list[tuple[int, int, bytes]]:
        """The frames that the host has sent on this stream."""
        return self.transport.frames

    @property
    def verdict(self) -> str:
        """Why the host gave the guest up; empty if it did not."""
        ended = self.client.link.ended
        return str(ended.result()) if ended.done() else ""


def ended(code: int = 0, **more: Any) -> dict[str, Any]:
    """The body of a reply to a command."""
    streams = {"stdout": {"dropped": 0}, "stderr": {"dropped": 0}}
    return {"exit_code": code, "duration": 0.1, "background": False, **streams, **more}
