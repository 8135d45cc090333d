"""The guest's loop: one thread that never waits for anything but the next event."""

from __future__ import annotations

import heapq
import os
import selectors
import time

from .commands import Command
from .files import OPERATIONS, describe
from .supervisor import Supervisor
from .trees import (
    PR_SET_CHILD_SUBREAPER,
    can_adopt,
    children_of,
    descendants,
    kill_all_below,
    prctl,
    stop_and_kill,
)
from .wire import (
    CREDIT,
    DATA,
    EOF,
    KILL,
    LENGTH,
    PIECE,
    PROTOCOL,
    REPLY,
    REQUEST,
    SIGNAL,
    STDOUT,
    Frames,
    frame,
    message,
    parse_message,
)

OUTBOX_HIGH = 1024 * 1024
"""When this much waits for the host to read it, commands' output is not read on."""
IDLE_SUPERVISORS = 8
"""Supervisors kept for the next commands; more are made when more run at once."""


class Guest:
    """The loop: one thread, no blocking but for the disk."""

    def __init__(self, inlet, outlet):
        self.inlet = inlet
        self.outlet = outlet
        self.selector = selectors.DefaultSelector()
        self.frames = Frames()
        self.outbox = bytearray()
        self.outbox_watched = False
        self.commands = {}
        self.timers = []
        self.timer_count = 0
        self.limits = {}
        self.idle = []
        self.employed = set()
        self.spill_dir = None

    @property
    def congested(self):
        return len(self.outbox) > OUTBOX_HIGH

    def watch(self, fd, callback, events=selectors.EVENT_READ):
        self.selector.register(fd, events, callback)

    def forget(self, fd):
        self.selector.unregister(fd)

    def after(self, seconds, callback):
        self.timer_count += 1  # breaks ties: callbacks do not compare
        heapq.heappush(self.timers, (time.monotonic() + seconds, self.timer_count, callback))

    def spill_name(self, channel, kind):
        os.makedirs(self.spill_dir, mode=0o700, exist_ok=True)
        stream = "stdout" if kind == STDOUT else "stderr"
        return os.path.join(self.spill_dir, "%d.%s" % (channel, stream))

    # wire

    def send(self, data):
        was_congested = self.congested
        self.outbox += data
        if len(self.outbox) >= PIECE:
            self.flush()
        if self.congested != was_congested:
            self.balance()

    def flush(self):
        try:
            while self.outbox:
                written = os.write(self.outlet, self.outbox)
                del self.outbox[:written]
        except BlockingIOError:
            pass
        except OSError:
            kill_all_below()
        wanted = bool(self.outbox)
        if wanted != self.outbox_watched:
            self.outbox_watched = wanted
            self.watch_outlet(wanted)

    def watch_outlet(self, wanted):
        # Over a socket, one descriptor is both ends, under two numbers.
        if wanted:
            self.watch(self.outlet, self.on_writable, selectors.EVENT_WRITE)
        else:
            self.forget(self.outlet)

    def on_writable(self):
        was_congested = self.congested
        self.flush()
        if was_congested and not self.congested:
            self.balance()

    def balance(self):
        for command in self.commands.values():
            command.balance()

    def on_input(self):
        try:
            data = os.read(self.inlet, 4 * PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            kill_all_below()
        for kind, channel, payload in self.frames.feed(data):
            self.on_frame(kind, channel, payload)

    def on_frame(self, kind, channel, payload):
        if kind == REQUEST:
            self.on_request(channel, payload)
            return
        command = self.commands.get(channel)
        if command is None:
            if kind == KILL:
                self.send(frame(GONE, channel))
        elif kind == DATA:
            command.feed_stdin(payload)
        elif kind == EOF:
            command.end_stdin()
        elif kind == CREDIT:
            command.credit(LENGTH.unpack(payload)[0])
        elif kind == SIGNAL:
            command.signal(LENGTH.unpack(payload)[0])
        elif kind == KILL:
            command.kill(parse_message(payload)[0]["grace"])

    def on_request(self, channel, payload):
        try:
            body, blob = parse_message(payload)
            operation = body["op"]
            if operation in ("exec", "job"):
                self.start(channel, operation, body)
                return
            operate = self.configure if operation == "configure" else OPERATIONS[operation]
            reply = operate(body, blob)
        except Exception as error:  # noqa: BLE001 - whatever it is, the host is told
            self.send(frame(REPLY, channel, message({"error": describe(error)})))
            return
        answer, answer_blob = reply if isinstance(reply, tuple) else (reply, b"")
        self.send(frame(REPLY, channel, message(answer or {}, answer_blob)))

    def start(self, channel, operation, body):
        order = {"cwd": body["cwd"]}
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

    def employ(self, order, streams):
        """A supervisor that has been given `order`."""
        while True:
            supervisor = self.idle.pop() if self.idle else Supervisor(self.limits)
            if supervisor.give(order, streams):
                self.employed.add(supervisor.pid)
                return supervisor
            supervisor.close()  # something in the sandbox killed it while it waited

    def release(self, supervisor):
        self.employed.discard(supervisor.pid)
        if len(self.idle) < IDLE_SUPERVISORS:
            self.idle.append(supervisor)
        else:
            supervisor.close()

    def configure(self, body, blob):
        """The first request: limits for commands, where output spills."""
        self.limits = body.get("limits", {})
        self.spill_dir = body["spill_dir"]
        self.idle.append(Supervisor(self.limits))
        return {
            "protocol": PROTOCOL,
            "pid": os.getpid(),
            "tree_kill": can_adopt and os.path.isdir("/proc/self"),
        }

    # life and death

    def bury(self, supervisor):
        """A supervisor was killed: kill what became our child by that."""
        supervisor.close()
        self.employed.discard(supervisor.pid)
        ours = self.employed | {supervisor.pid for supervisor in self.idle}

        def strangers():
            found = [pid for pid in children_of(os.getpid()) if pid not in ours]
            return found + [below for pid in found for below in descendants(pid)]

        stop_and_kill(strangers)
        for pid in [pid for pid in children_of(os.getpid()) if pid not in ours]:
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                continue

    def run(self):
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        os.set_blocking(self.inlet, False)
        os.set_blocking(self.outlet, False)
        self.watch(self.inlet, self.on_input)
        while True:
            timeout = self.run_timers()
            self.flush()
            events = self.selector.select(timeout)
            for key, _ in events:
                # An earlier callback of this round may have closed this descriptor.
                if self.selector.get_map().get(key.fd) is key:
                    key.data()

    def run_timers(self):
        """Run what is due; return seconds until the next timer, or None."""
        while self.timers:
            due = self.timers[0][0] - time.monotonic()
            if due > 0:
                return due
            heapq.heappop(self.timers)[2]()
        return None


def main():
    """Serve the host on stdin and stdout until it goes."""
    Guest(0, 1).run()
