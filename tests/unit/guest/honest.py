"""A guest for tests without a process: it keeps to docs/guest-protocol.md."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from paddock.backends.guest.inside import wire
from tests.unit.guest.puppet import RecordingTransport, ended

if TYPE_CHECKING:
    from paddock.backends.guest.connection import Connection


@dataclass
class Running:
    """A command as the guest sees it."""

    name: str
    streamed: bool
    host: Stream
    keep: int
    window: int = wire.WINDOW
    sent: bytes = b""
    answered: bool = False
    killing: bool = False
    owes_gone: bool = False


@dataclass(eq=False)
class Stream:
    """One connection, and what is on its way."""

    connection: Connection
    transport: RecordingTransport
    to_host: deque[tuple[int, int, bytes]] = field(default_factory=deque)
    commands: dict[int, Running] = field(default_factory=dict)
    ended: dict[int, Running] = field(default_factory=dict)
    alive: bool = True
    last_request: int = 0

    def say(self, kind: int, channel: int, payload: bytes = b"") -> None:
        if self.alive:
            self.to_host.append((kind, channel, payload))


class HonestGuest:
    """Keeps to the protocol; decides nothing by itself."""

    def __init__(self) -> None:
        self.paused = False
        self.cut_off: set[str] = set()
        self.done: list[tuple[str, object]] = []

    def take(self, stream: Stream, kind: int, channel: int, payload: bytes) -> None:
        command = stream.commands.get(channel)
        if kind == wire.REQUEST:
            self.on_request(stream, channel, wire.parse_message(payload)[0])
        elif kind == wire.KILL:
            if command is None:
                stream.say(wire.GONE, channel)
            else:
                command.killing = command.owes_gone = True
        elif kind == wire.CREDIT and command is not None:
            command.window += wire.LENGTH.unpack(payload)[0]

    def on_request(self, stream: Stream, channel: int, body: dict[str, Any]) -> None:
        stream.last_request = max(stream.last_request, channel)
        if body["op"] == "exec":
            stream.commands[channel] = Running(
                body["argv"][0], body["streamed"], stream, body["keep"]
            )
        elif body["op"] == "succeed":
            self.succeed(stream, self.broken, body["pending"])
            stream.say(wire.REPLY, channel, wire.message({"last": self.broken.last_request}))
        else:
            self.done.append((body["op"], body.get("name")))
            stream.say(wire.REPLY, channel, wire.message({"name": body.get("name")}))

    def succeed(self, stream: Stream, old: Stream, pending: list[int]) -> None:
        for channel in pending:
            known = channel in old.commands or channel in old.ended
            if not known and channel <= old.last_request:
                unknown = {"kind": "Unknown", "text": "nothing is known of it"}
                stream.say(wire.REPLY, channel, wire.message({"error": unknown}))
        for channel, command in old.commands.items():
            command.host = stream
            if channel in pending:
                self.send_again(stream, channel, command)
            elif not command.answered:
                command.killing = command.owes_gone = True
                self.cut_off.add(command.name)
        for channel in pending:
            if channel in old.ended and channel not in old.commands:
                self.send_again(stream, channel, old.ended[channel])
        stream.commands |= old.commands
        stream.ended = old.ended

    broken: Stream

    def send_again(self, stream: Stream, channel: int, command: Running) -> None:
        if command.sent:
            stream.say(wire.STDOUT, channel, command.sent)
        if command.answered:
            stream.say(wire.REPLY, channel, self.reply(command))

    def print(self, stream: Stream, channel: int, size: int) -> None:
        command = stream.commands[channel]
        if command.answered or command.window <= 0:
            return
        data = command.name.encode()[-1:] * size
        if command.streamed:
            command.window -= size
        else:
            data = data[: command.keep - len(command.sent)]
        command.sent += data
        if data:
            stream.say(wire.STDOUT, channel, data)

    def reply(self, command: Running) -> bytes:
        code = int(command.name) % 200
        return wire.message(ended(code, background=command.owes_gone and not command.killing))

    def end(self, stream: Stream, channel: int, *, background: bool) -> None:
        """The leading process ends, and the tree with it unless something stays behind."""
        command = stream.commands[channel]
        if not command.answered:
            command.answered = True
            command.owes_gone = command.owes_gone or background
            stream.say(wire.REPLY, channel, self.reply(command))
            stream.ended[channel] = command
        elif background:
            return
        if not background or command.killing:
            del stream.commands[channel]
            if command.owes_gone:
                stream.say(wire.GONE, channel)
