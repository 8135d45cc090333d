"""The guest's loop: one thread that never waits for anything but the next event."""

from __future__ import annotations

import heapq
import os
import selectors
import signal
import sys
import time

from .commands import Command
from .files import OPERATIONS, describe
from .supervisor import Supervisor, descriptor_limit, limits_by_number
from .trees import (
    KILL_ROUND,
    PR_SET_CHILD_SUBREAPER,
    can_adopt,
    children_of,
    kill_all_below,
    prctl,
    stop_and_kill,
)
from .tunnels import Tunnels
from .wire import (
    CREDIT,
    DATA,
    EOF,
    GONE,
    KILL,
    LENGTH,
    PIECE,
    PROTOCOL,
    REPLY,
    REQUEST,
    SIGNAL,
    STDOUT,
    TUNNEL_KINDS,
    Frames,
    frame,
    message,
    parse_message,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from .files import Answer, Body
    from .supervisor import Order

    Callback = Callable[[], None]

OUTBOX_HIGH = 1024 * 1024
"""When this much waits for the host to read it, commands' output is not read on,"""
OUTBOX_LOW = 256 * 1024
"""until no more than this waits."""
OUTBOX_FULL = 16 * 1024 * 1024
"""When this much waits (answers, then), no requests are taken either."""
IDLE_SUPERVISORS = 8
"""Supervisors kept for the next commands; more are made when more run at once."""
SPARE_DESCRIPTORS = 16
"""Kept from commands: without any the guest could neither look at processes nor kill them."""
SPILL_TOTAL = 1024 * 1024 * 1024
"""Bytes of all spill files together: they stay until the sandbox ends."""


LEASE_TICK = 1.0
"""Seconds between two looks at how long the host has been silent."""


class Guest:
    """One host's guest, on two descriptors, which may be the two ways of one socket."""

    def __init__(self, inlet: int, outlet: int) -> None:
        self.inlet = inlet
        self.outlet = outlet
        self.selector = selectors.DefaultSelector()
        self.frames = Frames()
        self.outbox = bytearray()
        self.outbox_watched = False
        self.inlet_watched = False
        self.congested = False
        self.commands: dict[int, Command] = {}
        self.tunnels = Tunnels(self)
        self.timers: list[tuple[float, int, Callback]] = []
        self.timer_count = 0
        self.limits: dict[int, int] = {}
        self.supervisors: dict[int, Supervisor] = {}
        self.idle: list[Supervisor] = []
        self.graves: list[tuple[Supervisor, Callback]] = []
        self.descriptors = descriptor_limit() - SPARE_DESCRIPTORS
        self.spill_dir = ""
        self.spill_room = SPILL_TOTAL
        self.lease = 0.0
        self.silence = 0.0

    def watch(self, fd: int, callback: Callback, events: int = selectors.EVENT_READ) -> None:
        self.selector.register(fd, events, callback)

    def forget(self, fd: int) -> None:
        self.selector.unregister(fd)

    def after(self, seconds: float, callback: Callback) -> None:
        self.timer_count += 1  # breaks ties: callbacks do not compare
        heapq.heappush(self.timers, (time.monotonic() + seconds, self.timer_count, callback))

    def open_spill(self, channel: int, kind: int) -> tuple[int, str]:
        os.makedirs(self.spill_dir, mode=0o700, exist_ok=True)
        stream = "stdout" if kind == STDOUT else "stderr"
        path = os.path.join(self.spill_dir, f"{channel}.{stream}")
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600), path

    # wire

    def send(self, data: bytes) -> None:
        self.outbox += data
        if len(self.outbox) >= PIECE:
            self.flush()

    def flush(self) -> None:
        try:
            while self.outbox:
                written = os.write(self.outlet, self.outbox)
                del self.outbox[:written]
        except BlockingIOError:
            pass
        except OSError:
            kill_all_below()
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
            self.watch(self.outlet, self.flush, selectors.EVENT_WRITE)
        else:
            self.forget(self.outlet)

    def watch_inlet(self, wanted: bool) -> None:
        self.inlet_watched = wanted
        if wanted:
            self.watch(self.inlet, self.on_input)
        else:
            self.forget(self.inlet)

    def on_input(self) -> None:
        try:
            data = os.read(self.inlet, 4 * PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            kill_all_below()
        self.silence = 0.0
        for kind, channel, payload in self.frames.feed(data):
            self.on_frame(kind, channel, payload)

    def on_frame(self, kind: int, channel: int, payload: bytes) -> None:
        if kind == REQUEST:
            self.on_request(channel, payload)
            return
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
        try:
            operation = body["op"]
            if operation in ("exec", "job"):
                self.start(channel, operation, body)
                return
            operate = self.configure if operation == "configure" else OPERATIONS[operation]
            answer, answer_blob = operate(body, blob)
        except Exception as error:  # whatever it is, the host is told
            answer, answer_blob = {"error": describe(error)}, b""
        self.send(frame(REPLY, channel, message(answer, answer_blob)))

    def start(self, channel: int, operation: str, body: Body) -> None:
        order: Order = {"cwd": body["cwd"]}
        if operation == "exec":
            order.update(argv=body["argv"], env=body["env"])
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

    def configure(self, body: Body, blob: bytes) -> Answer:
        """The first request: limits for commands, where output spills, how long the lease is.

        And, if the host takes connections from inside, the port to which they are made.
        """
        self.limits = limits_by_number(body["limits"])
        self.spill_dir = body["spill_dir"]
        if body["lease"] is not None:
            self.lease = body["lease"]
            self.after(LEASE_TICK, self.on_tick)
        if body.get("listen") is not None:
            self.tunnels.listen(body["listen"])
        self.idle.append(self.new_supervisor())
        answer: dict[str, Any] = {
            "protocol": PROTOCOL,
            "pid": os.getpid(),
            "tree_kill": can_adopt and os.path.isdir("/proc/self"),
            "env": dict(os.environ),
        }
        return answer, b""

    def on_tick(self) -> None:
        """Count how long the host has been silent; past its lease it is taken for dead.

        In ticks, not by a clock: a sandbox that was paused has not waited.
        """
        self.silence += LEASE_TICK
        if self.silence > self.lease:
            kill_all_below()
        self.after(LEASE_TICK, self.on_tick)

    # supervisors

    def new_supervisor(self) -> Supervisor:
        supervisor = Supervisor(self.limits)
        self.supervisors[supervisor.pid] = supervisor
        return supervisor

    def employ(self, order: Order, streams: Sequence[int]) -> Supervisor:
        """A supervisor that has been given `order`."""
        while self.idle:
            supervisor = self.idle.pop()
            try:
                supervisor.give(order, streams)
            except OSError:  # something in the sandbox killed or stopped it while it waited
                supervisor.close()
            else:
                return supervisor
        supervisor = self.new_supervisor()
        try:
            supervisor.give(order, streams)
        except OSError:
            supervisor.close()
            raise
        return supervisor

    def release(self, supervisor: Supervisor) -> None:
        if len(self.idle) < IDLE_SUPERVISORS:
            self.idle.append(supervisor)
        else:
            supervisor.close()

    def reap(self) -> None:
        """Reap children: supervisors, and as the first process of a container, anybody's."""
        try:
            while True:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                supervisor = self.supervisors.pop(pid, None)
                if supervisor is not None:
                    supervisor.alive = False
        except ChildProcessError:
            return

    def bury(self, supervisor: Supervisor, on_buried: Callback) -> None:
        """A supervisor was killed under its command: kill what becomes our child by that."""
        supervisor.close()
        self.graves.append((supervisor, on_buried))
        if len(self.graves) == 1:
            self.dig()

    def dig(self) -> None:
        self.reap()
        stop_and_kill(self.strangers)
        self.reap()
        # Its children become ours at the moment from which it can be reaped.
        if any(supervisor.alive for supervisor, _ in self.graves) or self.strangers():
            self.after(KILL_ROUND, self.dig)
            return
        graves, self.graves = self.graves, []
        for _, on_buried in graves:
            on_buried()

    def strangers(self) -> list[int]:
        return [pid for pid in children_of(os.getpid()) if pid not in self.supervisors]

    # the loop

    def run(self) -> None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        os.set_blocking(self.inlet, False)
        os.set_blocking(self.outlet, False)
        self.watch_signals()
        while True:
            timeout = self.run_timers()
            self.flush()
            events = self.selector.select(timeout)
            for key, _ in events:
                # An earlier callback of this round may have closed this descriptor.
                if self.selector.get_map().get(key.fd) is key:
                    key.data()

    def watch_signals(self) -> None:
        # The host says when to end. What a terminal sends to its process group is not for us.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda number, stack: kill_all_below(128 + number))
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.signal(signal.SIGCHLD, lambda number, stack: None)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

        def on_signal() -> None:
            os.read(reader, PIECE)
            self.reap()

        self.watch(reader, on_signal)

    def run_timers(self) -> float | None:
        """Run what is due; return seconds until the next timer, or None."""
        while self.timers:
            due = self.timers[0][0] - time.monotonic()
            if due > 0:
                return due
            heapq.heappop(self.timers)[2]()
        return None


ON_KIND: dict[int, Callable[[Command, bytes], None]] = {
    DATA: lambda command, payload: command.feed_stdin(payload),
    EOF: lambda command, payload: command.end_stdin(),
    CREDIT: lambda command, payload: command.credit(LENGTH.unpack(payload)[0]),
    SIGNAL: lambda command, payload: command.signal(LENGTH.unpack(payload)[0]),
    KILL: lambda command, payload: command.kill(parse_message(payload)[0]["grace"]),
}


def main() -> None:
    """Serve the host on stdin and stdout until it goes."""
    try:
        Guest(0, 1).run()
    except Exception:  # a host that does not keep to the protocol, or a defect of ours
        sys.excepthook(*sys.exc_info())
        kill_all_below(1)
