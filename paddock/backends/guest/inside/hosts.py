"""One host's connection to the guest: its frames, its commands, its tunnels.

The first comes with the guest's own stdin and stdout. Others, where the guest takes them, come
over a socket whose frames are sealed (see `seal`).
"""

from __future__ import annotations

import os
import struct
import sys

from .files import describe
from .outbox import Outbox
from .table import Commands
from .wire import (
    CREDIT,
    DATA,
    EOF,
    GONE,
    HEARTBEAT,
    KILL,
    LEAVE,
    LEFT,
    LENGTH,
    PAIR,
    PIECE,
    REPLY,
    REQUEST,
    RESIZE,
    SIGNAL,
    TUNNEL_KINDS,
    Frames,
    frame,
    message,
    parse_message,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .machine import Machine
    from .requests import Answer, Body
    from .seal import Seal
    from .subscribers import Subscriber
    from .tunnels import Tunnels

    Operation = Callable[["Host", Body], Body]

VIOLATIONS = (ValueError, KeyError, TypeError, OverflowError, struct.error)
"""What a frame raises that makes no sense."""


class Host:
    """One connection, on two descriptors, which may be duplicates of one.

    `operations` are requests that the guest answers. It calls `on_heard` for any frame of the
    host, `on_used` for one that is more than a sign of life, and `on_gone` when its stream ends.
    `seals` are of the host's frames and of ours.
    """

    def __init__(
        self,
        machine: Machine,
        inlet: int,
        outlet: int,
        *,
        operations: dict[str, Operation],
        on_heard: Callable[[], None],
        on_used: Callable[[], None],
        on_gone: Callable[[Host], None],
        seals: tuple[Seal, Seal] | None = None,
        keeps: bool = False,
    ) -> None:
        theirs, ours = seals or (None, None)
        self.machine = machine
        self.poller = machine.poller
        self.inlet = inlet
        self.operations = operations
        self.on_heard = on_heard
        self.on_used = on_used
        self.on_gone = on_gone
        self.name = os.urandom(8).hex()
        self.proven = seals is None
        """Whether it is known to be a host: one that joins proves that by its first frame."""
        self.gone = False
        self.listening = False
        self.frames = Frames(theirs)
        self.outbox = Outbox(
            self.poller,
            outlet,
            seal=ours,
            on_congestion=self.balance,
            on_broken=self.end,
        )
        self.commands = Commands(machine, self.outbox, keeps=keeps)
        self.made_tunnels: Tunnels | None = None
        os.set_blocking(inlet, False)
        os.set_blocking(outlet, False)

    def flush(self) -> None:
        """Send what waits, and listen exactly while there is room for answers."""
        self.outbox.flush()
        wanted = not (self.gone or self.outbox.full)
        if wanted != self.listening:
            self.listen(wanted)

    def listen(self, wanted: bool) -> None:
        self.listening = wanted
        if wanted:
            self.poller.watch(self.inlet, self.on_input)
        else:
            self.poller.forget(self.inlet)

    def balance(self) -> None:
        self.commands.balance()
        if self.made_tunnels is not None:
            self.made_tunnels.balance()

    @property
    def tunnels(self) -> Tunnels:
        """Made when they are needed first, as few sandboxes have any."""
        if self.made_tunnels is None:
            from .tunnels import Tunnels

            self.made_tunnels = Tunnels(self.machine, self.outbox)
        return self.made_tunnels

    # frames

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
        try:
            frames = self.frames.feed(data)
            if self.proven or frames:
                self.proven = True
                self.on_heard()
            for kind, channel, payload in frames:
                self.on_frame(kind, channel, payload)
        except VIOLATIONS as error:
            sys.stderr.write(f"a host broke the protocol: {str(error)[:200]}\n")
            self.end()

    def on_frame(self, kind: int, channel: int, payload: bytes) -> None:
        if channel != HEARTBEAT:
            self.on_used()
        if kind == REQUEST:
            self.on_request(channel, payload)
            return
        if kind in TUNNEL_KINDS:
            self.tunnels.on_frame(kind, channel, payload)
            return
        on_kind = ON_KIND.get(kind)
        if on_kind is None:
            raise ValueError(f"frame kind {kind}")
        subscriber = self.commands.by_channel.get(channel)
        if subscriber is not None:
            on_kind(subscriber, payload)
        elif kind in ANSWERED:
            self.outbox.send(frame(ANSWERED[kind], channel))

    def on_request(self, channel: int, payload: bytes) -> None:
        body, blob = parse_message(payload)
        self.commands.last_request = max(self.commands.last_request, channel)
        try:
            if body["op"] in ("exec", "fenced", "job"):
                self.commands.start(channel, body)
                return
            if body["op"] == "adopt":
                self.commands.adopt(channel, body)
                return
            answer, answer_blob = self.operate(body, blob)
        except Exception as error:  # whatever it is, report it to the host
            answer, answer_blob = {"error": describe(error)}, b""
        self.outbox.send(frame(REPLY, channel, message(answer, answer_blob)))

    def operate(self, body: Body, blob: bytes) -> Answer:
        operation = self.operations.get(body["op"])
        if operation is not None:
            return operation(self, body), b""
        from .requests import OPERATIONS  # a sandbox that only runs commands needs none

        with self.machine.acting():
            return OPERATIONS[body["op"]](body, blob)

    # the end

    def end(self) -> None:
        """The stream has ended. What that means for the sandbox, the guest decides."""
        if self.gone:
            return
        self.gone = True
        if self.listening:
            self.listen(False)
        self.outbox.close()
        os.close(self.inlet)
        if self.made_tunnels is not None:
            self.made_tunnels.close()
        self.on_gone(self)

    def end_unless_proven(self) -> None:
        if not self.proven:
            self.end()


ON_KIND: dict[int, Callable[[Subscriber, bytes], None]] = {
    DATA: lambda to, payload: to.command.inlet.feed(payload, to),
    EOF: lambda to, payload: to.command.inlet.end(),
    CREDIT: lambda to, payload: to.credit(LENGTH.unpack(payload)[0]),
    SIGNAL: lambda to, payload: to.command.signal(*PAIR.unpack(payload)),
    RESIZE: lambda to, payload: to.command.resize(*PAIR.unpack(payload)),
    KILL: lambda to, payload: to.kill(parse_message(payload)[0]["grace"]),
    LEAVE: lambda to, payload: to.leave(),
}
ANSWERED = {KILL: GONE, LEAVE: LEFT}
"""What is answered for a channel that is over."""
