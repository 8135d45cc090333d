"""The channels of one guest, by number, over whatever connection there is now.

A request, a process and a tunnel are a `Channel` each; this module knows none of them. What
a guest sends is checked here as far as the table tells: frames are of known kinds, on
channels that are open, or that were open when the frame was sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from paddock.backends.guest.connection import Connection, ProtocolViolation
from paddock.backends.guest.inside import wire
from paddock.backends.guest.link import Link, State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paddock.errors import SandboxClosed, SandboxLost

__all__ = ["Channel", "Channels", "number_of"]

PING = wire.frame(wire.REQUEST, wire.HEARTBEAT, wire.message({"op": "ping"}))
FROM_GUEST = wire.TUNNEL_KINDS | {
    wire.REPLY,
    wire.STDOUT,
    wire.STDERR,
    wire.STDIN_CREDIT,
    wire.STDIN_CLOSED,
    wire.GONE,
    wire.REPLAY,
    wire.LEFT,
}
OPENING = frozenset((wire.REQUEST, wire.OPEN))
LATE_FRAMES = 2
"""Frames that may still come on a channel that was closed: a guest's own end of it, and its
answer to ours, may have crossed."""
LATE_FRAMES_MAX = 1024 * 1024
"""Of all closed channels together, so that no guest saves them up."""


class Channel(Protocol):
    """One exchange with a guest. Its methods are called in the loop, and never wait."""

    @property
    def waiting(self) -> bool:
        """Whether somebody waits for a frame of the guest."""

    @property
    def streaming(self) -> bool:
        """Whether somebody wants output as soon as there is some."""

    def on_frame(self, kind: int, payload: bytes) -> None:
        """Take a frame. Raises `ProtocolViolation` for one that may not come now."""

    def on_over(self, error: SandboxLost | SandboxClosed) -> None:
        """The sandbox was lost or closed."""

    def on_break(self) -> bool:
        """The stream broke, and there is another one now.

        Return True to have the guest answer again from the beginning; what it runs for a
        channel that returns False, it kills. `on_reconnected` follows.
        """

    def on_reconnected(self, *, heard: bool) -> None:
        """The guest takes frames again: send what may have been lost on the way to it.

        `heard` tells whether the request of this channel had arrived. A channel that has no
        further use closes.
        """


class Channels:
    """The table, and the one place that frames are sent from.

    While there is no stream, frames wait in order for the next one. `link` has the state.
    """

    def __init__(self) -> None:
        self.link: Link = Link()
        self.link.when_over(self._on_over)
        self.on_open: Callable[[int], None] | None = None
        """Enters a channel for the number that the guest opens, or raises
        `ProtocolViolation`; None where it may open none."""
        self._connection: Connection | None = None
        self._ready = False
        """Whether the connection takes frames of channels, beside those that make it ready."""
        self._table: dict[int, Channel] = {}
        self._last_number = wire.HEARTBEAT
        self._late_frames = LATE_FRAMES
        self._backlog: list[tuple[int, int, bytes]] = []

    # the connection

    def connect(self) -> Connection:
        """The first connection, as the protocol of a transport that the caller opens."""
        self._connection = Connection(self)
        self._ready = True
        return self._connection

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def on_violation(self, reason: str) -> None:
        self.link.fail(f"protocol violation: {reason}")

    def on_disconnected(self, connection: Connection) -> None:
        if connection is self._connection:
            self._connection = None
            self._ready = False
            self.link.break_off()

    async def reconnect(
        self, connection: Connection, succeed: Callable[[list[int]], Awaitable[int]]
    ) -> None:
        """Continue over `connection`, which leads to the same guest.

        `succeed` has the guest answer on these channels again, and returns the last channel on
        which a request had arrived; its own frames are sent with `first=True`, while those of
        others wait. If this fails, it may be called again.
        """
        unsent = {number for kind, number, _ in self._backlog if kind in OPENING}
        sent = [number for number in self._table if number not in unsent]
        again = [number for number in sent if self._table[number].on_break()]
        connection.receiver = self
        self._connection = connection
        last = await succeed(again)
        self._ready = True
        backlog, self._backlog = self._backlog, []
        for number in sent:
            if (channel := self._table.get(number)) is not None:
                channel.on_reconnected(heard=number <= last)
        for _, number, frame in backlog:
            if number in self._table:
                connection.write(frame)
        self.link.resume()

    def _on_over(self) -> None:
        if self._connection is not None:
            if self.link.state is State.CLOSED:
                self._connection.close()
            else:
                self._connection.abort()
        table, self._table = self._table, {}
        self._backlog.clear()
        for channel in table.values():
            channel.on_over(self.link.error())

    # channels

    def open(self, channel: Channel) -> int:
        """Enter `channel` in the table; return its number. Raises when the sandbox is over."""
        self.link.raise_if_over()
        while True:
            self._last_number = (self._last_number + 1) % wire.GUEST_CHANNELS
            if self._last_number != wire.HEARTBEAT and self._last_number not in self._table:
                break
        self.enter(self._last_number, channel)
        return self._last_number

    def enter(self, number: int, channel: Channel) -> None:
        """Enter `channel` under a number that is free."""
        self._table[number] = channel

    def close_channel(self, number: int, *, late_frames: int = LATE_FRAMES) -> bool:
        """Take a channel out of the table; return whether it was there.

        `late_frames` is how many frames may be on their way to it.
        """
        if self._table.pop(number, None) is None:
            return False
        self._late_frames = min(self._late_frames + late_frames, LATE_FRAMES_MAX)
        return True

    def send(
        self, kind: int, number: int, payload: bytes | memoryview = b"", *, first: bool = False
    ) -> None:
        """Send a frame, now or as soon as there is a stream. Raises when the sandbox is over."""
        self.link.raise_if_over()
        data = wire.frame(kind, number, payload)
        if self._connection is not None and (self._ready or first):
            self._connection.write(data)
        else:
            self._backlog.append((kind, number, data))

    @property
    def waiting(self) -> bool:
        """Whether somebody waits for a frame of the guest."""
        return any(channel.waiting for channel in self._table.values())

    @property
    def streaming(self) -> bool:
        """Whether somebody wants output as soon as there is some."""
        return any(channel.streaming for channel in self._table.values())

    def on_frame(self, kind: int, number: int, payload: bytes) -> None:
        if kind not in FROM_GUEST:
            raise ProtocolViolation(f"a frame of kind {kind}, which no guest sends")
        channel = self._table.get(number)
        if channel is not None:
            channel.on_frame(kind, payload)
        elif number == wire.HEARTBEAT:
            self._on_heartbeat(kind)
        elif kind == wire.OPEN:
            self._open_for_guest(number)
        elif self._late_frames > 0:
            self._late_frames -= 1
        else:
            raise ProtocolViolation(f"a frame of kind {kind} on channel {number}, which is closed")

    def _open_for_guest(self, number: int) -> None:
        if self.on_open is None or not number & wire.GUEST_CHANNELS:
            raise ProtocolViolation("it opens a connection where it may not")
        self.on_open(number)

    # heartbeats

    def beat(self) -> None:
        """Send a heartbeat, from the heartbeats' thread. Never blocks."""
        connection = self._connection
        if connection is not None and self.link.begin_beat():
            connection.write_from_thread(PING)

    def _on_heartbeat(self, kind: int) -> None:
        if kind != wire.REPLY or not self.link.on_beat_answered():
            raise ProtocolViolation("it answers a heartbeat that was not sent")


def number_of(payload: bytes) -> int:
    """The number that is all of a frame's payload. Raises `ProtocolViolation`."""
    if len(payload) != wire.LENGTH.size:
        raise ProtocolViolation(f"{len(payload)} bytes where a number belongs")
    number: int = wire.LENGTH.unpack(payload)[0]
    return number
