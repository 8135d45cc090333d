"""One host's connection to the guest: its frames, its commands, its tunnels.

The first comes with the guest's own stdin and stdout. Others, where the guest takes
them, come over a socket and say first the word that the first one has set.
"""

from __future__ import annotations

import os
import selectors
from collections import deque

from .commands import Command
from .files import OPERATIONS, describe
from .streams import hold
from .tunnels import Tunnels
from .wire import (
    CREDIT,
    DATA,
    EOF,
    GONE,
    HEADER,
    KILL,
    LENGTH,
    PIECE,
    REPLY,
    REQUEST,
    SIGNAL,
    TUNNEL_KINDS,
    WINDOW,
    Frames,
    frame,
    message,
    parse_message,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .files import Answer, Body
    from .loop import Guest
    from .supervisor import Order

JOURNAL_BYTES = 16 * 1024 * 1024
JOURNAL_LENGTH = 1000
"""Output of ended commands, and how many of them, kept for a host whose stream broke."""
OUTBOX_HIGH = 1024 * 1024
"""When this much waits for the host to read it, commands' output is not read on,"""
OUTBOX_LOW = 256 * 1024
"""until no more than this waits."""
OUTBOX_FULL = 16 * 1024 * 1024
"""When this much waits (answers, then), no requests are taken either."""

NARROW_ROUND = 1.0
"""Seconds between two looks whether a pipe has little enough in it to be made smaller."""


class Host:
    """One connection, on two descriptors, which may be duplicates of one."""

    def __init__(self, guest: Guest, inlet: int, outlet: int, *, trusted: bool) -> None:
        self.guest = guest
        self.inlet = inlet
        self.outlet = outlet
        self.trusted = trusted
        self.frames = Frames()
        self.outbox = bytearray()
        self.outbox_watched = False
        self.inlet_watched = False
        self.congested = False
        self.wide = False
        self.gone = False
        self.name = os.urandom(8).hex()
        self.commands: dict[int, Command] = {}
        self.ended: deque[Command] = deque()
        self.ended_bytes = 0
        self.last_request = 0
        """The highest channel of a request that arrived: hosts count up."""
        self.tunnels = Tunnels(self)
        os.set_blocking(inlet, False)
        os.set_blocking(outlet, False)

    def send(self, data: bytes) -> None:
        if self.gone:
            return
        self.outbox += data
        if len(self.outbox) >= PIECE:
            self.flush()

    def send_bulk(self, kind: int, channel: int, payload: bytes) -> None:
        """Send a frame whose payload is not worth a copy, if it can go at once."""
        if self.outbox or self.gone:
            self.send(frame(kind, channel, payload))
            return
        head = HEADER.pack(len(payload), kind, channel)
        try:
            written = os.writev(self.outlet, [head, payload])
        except BlockingIOError:
            written = 0
        except OSError:
            self.end()
            return
        self.outbox += head[written:]
        with memoryview(payload) as rest:
            self.outbox += rest[max(written - len(head), 0) :]

    def flush(self) -> None:
        if self.gone:
            return
        try:
            while self.outbox:
                written = os.write(self.outlet, self.outbox)
                del self.outbox[:written]
        except BlockingIOError:
            pass
        except OSError:
            self.end()
            return
        waiting = len(self.outbox)
        if bool(waiting) != self.outbox_watched:
            self.watch_outlet(bool(waiting))
        if self.congested != (waiting > (OUTBOX_LOW if self.congested else OUTBOX_HIGH)):
            self.congested = not self.congested
            for command in self.commands.values():
                command.balance()
            self.tunnels.balance()
        if (waiting < OUTBOX_FULL) != self.inlet_watched:
            self.watch_inlet(waiting < OUTBOX_FULL)

    def watch_outlet(self, wanted: bool) -> None:
        self.outbox_watched = wanted
        if wanted:
            self.guest.watch(self.outlet, self.flush, selectors.EVENT_WRITE)
        else:
            self.guest.forget(self.outlet)

    def watch_inlet(self, wanted: bool) -> None:
        self.inlet_watched = wanted
        if wanted:
            self.guest.watch(self.inlet, self.on_input)
        else:
            self.guest.forget(self.inlet)

    def on_input(self) -> None:
        try:
            data = os.read(self.inlet, PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.end()
            return
        self.guest.silence = 0.0
        try:
            for kind, channel, payload in self.frames.feed(data):
                self.on_frame(kind, channel, payload)
        except PermissionError:
            self.end()

    def end(self) -> None:
        """The host has gone. What that means for the guest, the guest knows."""
        if self.gone:
            return
        self.gone = True
        self.congested = False
        if self.outbox_watched:
            self.watch_outlet(False)
        if self.inlet_watched:
            self.watch_inlet(False)
        self.outbox.clear()
        self.tunnels.close()
        self.guest.on_host_gone(self)
        os.close(self.inlet)
        os.close(self.outlet)

    def end_unless_trusted(self) -> None:
        if not self.trusted:
            self.end()

    def abandon(self) -> None:
        """The sandbox goes on without this host, and so do its commands."""
        for command in tuple(self.commands.values()):
            command.orphan()

    # after a stream that broke

    def remember(self, command: Command) -> None:
        """Keep a command that was answered for a host that may not have got the answer."""
        if not self.guest.word:
            return
        self.ended.append(command)
        self.ended_bytes += command.kept_bytes
        while self.ended_bytes > JOURNAL_BYTES or len(self.ended) > JOURNAL_LENGTH:
            self.ended_bytes -= self.ended.popleft().kept_bytes

    def succeed(self, old: Host, pending: list[int]) -> None:
        """Take the place of `old`, whose stream broke; `pending` are channels without an answer.

        What has ended is answered again, what runs goes on here. What else `old` had
        running is ended: its output has been lost in part.
        """
        ended = {command.channel: command for command in old.ended}
        for channel in pending:
            command = old.commands.get(channel) or ended.get(channel)
            if command is None and channel <= old.last_request:
                unknown = {
                    "kind": "Unknown",
                    "text": "its stream broke, and nothing is known of it",
                }
                self.send(frame(REPLY, channel, message({"error": unknown})))
        for command in tuple(old.commands.values()):
            command.host = self
            if command.channel in pending:
                command.send_again()
            elif not command.answered:
                command.kill(0)
        for channel in pending:
            if channel in ended and channel not in old.commands:
                ended[channel].host = self
                ended[channel].send_again()
        self.commands.update(old.commands)
        old.commands.clear()
        self.ended, self.ended_bytes = old.ended, old.ended_bytes
        old.end()

    # frames

    def on_frame(self, kind: int, channel: int, payload: bytes) -> None:
        if kind == REQUEST:
            self.on_request(channel, payload)
            return
        if not self.trusted:
            raise PermissionError("a frame before the word")
        if kind in TUNNEL_KINDS:
            self.tunnels.on_frame(kind, channel, payload)
            return
        on_kind = ON_KIND.get(kind)
        if on_kind is None:
            raise ValueError(f"frame kind {kind}")
        command = self.commands.get(channel)
        if command is not None:
            on_kind(command, payload)
        elif kind == KILL:
            self.send(frame(GONE, channel))

    def on_request(self, channel: int, payload: bytes) -> None:
        body, blob = parse_message(payload)
        self.last_request = max(self.last_request, channel)
        if not self.trusted:
            self.guest.check_word(body)
            self.trusted = True
        try:
            operation = body["op"]
            if operation in ("exec", "fenced", "job"):
                self.start(channel, operation, body)
                return
            answer, answer_blob = self.operate(operation, body, blob)
        except Exception as error:  # whatever it is, the host is told
            answer, answer_blob = {"error": describe(error)}, b""
        self.send(frame(REPLY, channel, message(answer, answer_blob)))

    def operate(self, operation: str, body: Body, blob: bytes) -> Answer:
        if operation == "configure":
            if body.get("listen") is not None:
                self.tunnels.listen(body["listen"])
            return self.guest.configure(self, body), b""
        if operation == "join":
            return self.guest.about(self), b""
        if operation == "succeed":
            old = self.guest.host_called(body["host"])
            self.succeed(old, body["pending"])
            return {"last": old.last_request}, b""
        return OPERATIONS[operation](body, blob)

    def start(self, channel: int, operation: str, body: Body) -> None:
        order: Order = {"cwd": body["cwd"]}
        if operation != "job":
            order.update(argv=body["argv"], env=body["env"], user=body.get("user"))
            if operation == "fenced":
                order["fence"] = body["fence"]
        else:
            order.update(job=body["job"], args=body["args"])
        self.commands[channel] = Command(
            self,
            channel,
            order,
            stdin=body["stdin"],
            keep=body["keep"],
            streamed=body["streamed"],
        )
        if self.commands[channel].bulk and not self.wide:
            self.wide = bool(hold(self.outlet, WINDOW))

    def narrow(self) -> None:
        """Give back what was widened for jobs that have ended: all sandboxes of a user share it."""
        if self.gone or not self.wide or any(command.bulk for command in self.commands.values()):
            return
        self.wide = not hold(self.outlet, PIECE)
        if self.wide:  # the host has not read it all
            self.guest.after(NARROW_ROUND, self.narrow)


ON_KIND: dict[int, Callable[[Command, bytes], None]] = {
    DATA: lambda command, payload: command.inlet.feed(payload),
    EOF: lambda command, payload: command.inlet.end(),
    CREDIT: lambda command, payload: command.credit(LENGTH.unpack(payload)[0]),
    SIGNAL: lambda command, payload: command.signal(LENGTH.unpack(payload)[0]),
    KILL: lambda command, payload: command.kill(parse_message(payload)[0]["grace"]),
}
