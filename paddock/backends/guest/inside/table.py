"""The commands of one host: those that run, and those that ended and may be asked for again."""

from __future__ import annotations

import errno

from .commands import Command
from .light import deque
from .roster import JOINED_MAX, Entry
from .subscribers import Owner, Subscriber
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
        self.by_channel: dict[int, Subscriber] = {}
        self.ended: deque[Subscriber] = deque()
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
        streamed = body["streamed"]
        command = Command(
            self.machine,
            order,
            stdin=body["stdin"],
            keep=body["keep"],
            bulk=streamed and body["op"] == "job",
            entry=Entry(body) if "id" in body else None,
        )
        command.detached = body.get("detached", False)
        self.enter(Subscriber(self, channel, command, streamed=streamed, owns=not command.detached))
        if command.bulk:
            self.outbox.widen()

    def enter(self, subscriber: Subscriber) -> None:
        self.by_channel[subscriber.channel] = subscriber
        subscriber.command.subscribe(subscriber)

    def adopt(self, channel: int, body: Body) -> None:
        """Join a command by its id, whichever host has started it."""
        command = self.machine.roster.find(body["id"])
        assert isinstance(command, Command), "nothing else is on the roster"
        if len(command.subscribers) >= JOINED_MAX:
            raise OSError(errno.EBUSY, f"{JOINED_MAX} have joined it already", body["id"])
        subscriber = Subscriber(self, channel, command, streamed=True, owns=False)
        subscriber.replay(body["keep"])
        if command.answered:
            subscriber.send_reply()
        if not command.answered or command.background:
            self.enter(subscriber)

    def on_answered(self, subscriber: Subscriber) -> None:
        """Keep it for a host that may not have got the answer, and could get all of it again."""
        if not self.keeps or subscriber.streamed:
            return
        self.ended.append(subscriber)
        self.ended_bytes += subscriber.command.kept_bytes
        while self.ended_bytes > KEPT_BYTES or len(self.ended) > KEPT_COMMANDS:
            self.ended_bytes -= self.ended.popleft().command.kept_bytes

    def on_over(self, subscriber: Subscriber) -> None:
        del self.by_channel[subscriber.channel]
        if subscriber.command.bulk and not any(
            other.command.bulk for other in self.by_channel.values()
        ):
            self.outbox.narrow()

    def balance(self) -> None:
        """The way to the host is congested, or is so no longer."""
        for subscriber in self.by_channel.values():
            subscriber.command.balance()

    def abandon(self) -> None:
        """The host is not coming back, and what it started runs on."""
        for subscriber in tuple(self.by_channel.values()):
            subscriber.abandon()

    def take_over(self, old: Commands, pending: list[int]) -> None:
        """Continue the commands of `old`, whose stream broke; `pending` have no answer yet.

        What has ended is answered again, what runs continues here. Other commands of `old`
        that run and are its own are killed: their output has been lost in part.
        """
        ended = {subscriber.channel: subscriber for subscriber in old.ended}
        for channel in pending:
            known = channel in old.by_channel or channel in ended
            if not known and channel <= old.last_request:
                text = "its stream broke, and nothing is known of it"
                error = {"error": {"kind": "Unknown", "text": text}}
                self.outbox.send(frame(REPLY, channel, message(error)))
        running = tuple(old.by_channel.values())
        ended = {channel: one for channel, one in ended.items() if channel not in old.by_channel}
        self.by_channel.update(old.by_channel)
        old.by_channel.clear()
        self.ended, self.ended_bytes = old.ended, old.ended_bytes
        for subscriber in running:
            subscriber.owner = self
            if subscriber.channel in pending:
                subscriber.send_again()
            elif subscriber.owns and not subscriber.command.answered:
                subscriber.kill(0)
        for channel in pending:
            if channel in ended:
                ended[channel].owner = self
                ended[channel].send_again()
