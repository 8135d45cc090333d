"""The commands of one host: those that run, and those that ended and may be asked for again."""

from __future__ import annotations

from .commands import Command, Owner
from .light import deque
from .wire import REPLY, frame, message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .files import Body
    from .machine import Machine
    from .outbox import Outbox
    from .supervisor import Order

KEPT_BYTES = 16 * 1024 * 1024
KEPT_COMMANDS = 1000
"""Output of ended commands, and how many of them, kept for a host whose stream broke."""


PASSED_ON = ("pty", "merge_output", "source")


class Commands(Owner):
    """By channel. With `keeps`, ended commands are kept."""

    def __init__(self, machine: Machine, outbox: Outbox, *, keeps: bool) -> None:
        self.machine = machine
        self.outbox = outbox
        self.keeps = keeps
        self.by_channel: dict[int, Command] = {}
        self.ended: deque[Command] = deque()
        self.ended_bytes = 0
        self.last_request = 0
        """The highest channel on which a request of any kind arrived: hosts count up."""

    def start(self, channel: int, body: Body) -> None:
        order: Order = {"cwd": body["cwd"], "user": body.get("user")}
        if body["op"] != "job":
            order.update(argv=body["argv"], env=body["env"])
            order["login"] = self.machine.login
            order.update({name: body[name] for name in PASSED_ON if name in body})
            if body["op"] == "fenced":
                order["fence"] = body["fence"]
        else:
            order.update(job=body["job"], args=body["args"])
        self.by_channel[channel] = command = Command(
            self.machine,
            self,
            channel,
            order,
            stdin=body["stdin"],
            keep=body["keep"],
            streamed=body["streamed"],
        )
        if command.bulk:
            self.outbox.widen()

    @property
    def running(self) -> bool:
        """Whether a leading process has not ended."""
        return any(command.status is None for command in self.by_channel.values())

    def on_answered(self, command: Command) -> None:
        """Keep it for a host that may not have got the answer."""
        if not self.keeps:
            return
        self.ended.append(command)
        self.ended_bytes += command.kept_bytes
        while self.ended_bytes > KEPT_BYTES or len(self.ended) > KEPT_COMMANDS:
            self.ended_bytes -= self.ended.popleft().kept_bytes

    def on_over(self, command: Command) -> bool:
        known = self.by_channel.pop(command.channel, None) is not None
        if command.bulk and not any(other.bulk for other in self.by_channel.values()):
            self.outbox.narrow()
        return known

    def balance(self) -> None:
        """The way to the host is congested, or is so no longer."""
        for command in self.by_channel.values():
            command.balance()

    def abandon(self) -> None:
        """The host is not coming back, and what it started runs on."""
        for command in tuple(self.by_channel.values()):
            command.orphan()

    def take_over(self, old: Commands, pending: list[int]) -> None:
        """Continue the commands of `old`, whose stream broke; `pending` have no answer yet.

        What has ended is answered again, what runs continues here. Other commands of `old`
        that run are killed: their output has been lost in part.
        """
        ended = {command.channel: command for command in old.ended}
        for channel in pending:
            known = channel in old.by_channel or channel in ended
            if not known and channel <= old.last_request:
                text = "its stream broke, and nothing is known of it"
                error = {"error": {"kind": "Unknown", "text": text}}
                self.outbox.send(frame(REPLY, channel, message(error)))
        for command in tuple(old.by_channel.values()):
            command.owner = self
            if command.channel in pending:
                command.send_again()
            elif not command.answered:
                command.kill(0)
        for channel in pending:
            if channel in ended and channel not in old.by_channel:
                ended[channel].owner = self
                ended[channel].send_again()
        self.by_channel.update(old.by_channel)
        old.by_channel.clear()
        self.ended, self.ended_bytes = old.ended, old.ended_bytes
