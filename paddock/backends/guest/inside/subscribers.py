"""A host's part in a command: its channel, its window, and whether the command goes with it.

The host that starts a command is its first subscriber; others join it by its id. Each has all
of its output, as fast as the slowest of them takes it, and may write to its stdin, signal and
kill it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from .streams import Peer
from .wire import (
    CREDIT_STEP,
    GONE,
    INLINE,
    LEFT,
    LENGTH,
    REPLAY,
    REPLY,
    STDIN_CLOSED,
    STDIN_CREDIT,
    WINDOW,
    frame,
    message,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .commands import Command
    from .outbox import Outbox

STREAMS = ("stdout", "stderr")


class Owner(ABC):
    """The commands of one host."""

    outbox: Outbox

    @abstractmethod
    def on_answered(self, subscriber: Subscriber) -> None:
        """Its reply was sent."""

    @abstractmethod
    def on_over(self, subscriber: Subscriber) -> None:
        """Nothing more comes on its channel."""


class Subscriber(Peer):
    """One host at one command. With `owns`, the command ends with it."""

    def __init__(
        self, owner: Owner, channel: int, command: Command, *, streamed: bool, owns: bool
    ) -> None:
        self.owner = owner
        self.channel = channel
        self.command = command
        self.streamed = streamed
        self.owns = owns
        self.window = WINDOW
        """Bytes of streamed output that the host still takes."""
        self.written = 0
        """Bytes of its input that the command has got, and that are not acknowledged."""
        self.owes_gone = False

    def send(self, kind: int, payload: bytes = b"") -> None:
        self.owner.outbox.send(frame(kind, self.channel, payload))

    # output

    @property
    def has_room(self) -> bool:
        return self.window > 0 or self.owner.outbox.closed  # a host that has gone delays no other

    @property
    def congested(self) -> bool:
        return self.owner.outbox.congested

    def on_output(self, kind: int, data: bytes, to_head: int) -> None:
        if self.streamed:
            self.owner.outbox.send_bulk(kind, self.channel, data)
            self.window -= len(data)
        elif to_head:
            self.send(kind, data[:to_head])

    def answer(self) -> None:
        if not self.streamed:
            self.send_tails()
        self.send_reply()
        self.owner.on_answered(self)

    def send_again(self) -> None:
        """Send what a host has to know that has heard nothing yet."""
        for outlet in self.command.outlets:
            self.send_pieces(outlet.kind, outlet.capture.head)
        if self.command.answered:
            self.send_tails()
            self.send_reply()

    def send_tails(self) -> None:
        for outlet in self.command.outlets:
            self.send_pieces(outlet.kind, outlet.capture.tail)

    def send_pieces(self, kind: int, data: bytearray) -> None:
        for at in range(0, len(data), INLINE):
            self.send(kind, bytes(data[at : at + INLINE]))

    def send_reply(self) -> None:
        background = self.command.background
        self.owes_gone = self.owes_gone or background
        self.send(REPLY, message({**self.command.outcome, "background": background}))

    def replay(self, keep: int) -> None:
        """Send a host that joins what was kept of the output before, at most `keep` bytes of each
        stream."""
        body: dict[str, Any] = {
            "pty": self.command.has_terminal,
            "stdin": self.command.inlet.fd is not None,
        }
        blob = b""
        for name, outlet in zip(STREAMS, self.command.outlets):
            head, tail = outlet.capture.excerpt(min(keep, INLINE))
            dropped = outlet.capture.total - len(head) - len(tail)
            body[name] = {"head": len(head), "dropped": dropped, "tail": len(tail)}
            blob += head + tail
        self.send(REPLAY, message(body, blob))

    # the host's wishes

    def credit(self, size: int) -> None:
        self.window += size
        self.command.balance()

    def on_written(self, size: int) -> None:
        self.written += size
        if self.written >= CREDIT_STEP:
            self.send(STDIN_CREDIT, LENGTH.pack(self.written))
            self.written = 0

    def on_stdin_closed(self) -> None:
        self.send(STDIN_CLOSED)

    def kill(self, grace: float) -> None:
        self.owes_gone = True
        self.command.kill(grace)

    def leave(self) -> None:
        """The host wants no more of it; the command runs on."""
        self.send(LEFT)
        self.drop()

    def abandon(self) -> None:
        """The host does not come again. The stdin of what it owned is at its end."""
        if self.owns:
            self.command.inlet.close()
        self.drop()

    def drop(self) -> None:
        if self.owns:
            self.command.detached = True
        self.command.subscribers.remove(self)
        self.owner.on_over(self)
        self.command.balance()

    def end(self) -> None:
        self.owner.on_over(self)
        if self.owes_gone:
            self.send(GONE)
