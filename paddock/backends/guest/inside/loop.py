"""The guest's loop: one thread that never waits for anything but the next event."""

from __future__ import annotations

import contextlib
import heapq
import os
import selectors
import signal
import socket
import sys
import time
from _operator import _compare_digest as compare_digest  # hmac's, without hmac

from .hosts import Host
from .shield import PR_SET_CHILD_SUBREAPER, OomScore, can_adopt, hide, prctl, take_wire
from .supervisor import descriptor_limit, limits_by_number
from .supervisors import Supervisors
from .trees import kill_all_below
from .wire import MEETING, PIECE, PROTOCOL, STDOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .files import Body

    Callback = Callable[[], None]

SPARE_DESCRIPTORS = 16
"""Kept from commands: without any the guest could neither look at processes nor kill them."""
SPILL_TOTAL = 1024 * 1024 * 1024
"""Bytes of all spill files together: they stay until the sandbox ends."""


OOM_COUNTS = ("/sys/fs/cgroup/memory/memory.oom_control", "/sys/fs/cgroup/memory.events")
"""Where a container sees its own control group: version 1 and version 2."""
LEASE_TICK = 1.0
"""Seconds between two looks at how long the host has been silent."""


WORD_DEADLINE = 10.0
"""Seconds that somebody who joins has to say the word."""
RETURN_GRACE = 3.0
"""Seconds that a host has to come again when its stream has ended, where hosts can join."""
JOINING = 8
"""Connections that may be without it at once."""


class Guest:
    """What all hosts share: supervisors, timers, limits, and whether it goes on."""

    def __init__(self, inlet: int, outlet: int, oom_score: OomScore) -> None:
        self.selector = selectors.DefaultSelector()
        self.timers: list[tuple[float, int, Callback]] = []
        self.timer_count = 0
        self.supervisors = Supervisors(self.after, oom_score)
        self.descriptors = descriptor_limit() - SPARE_DESCRIPTORS
        self.spill_dir = ""
        self.spill_room = SPILL_TOTAL
        self.spill_count = 0
        self.oom_kills = oom_kills()
        self.outlives = False
        self.env_vars: dict[str, str] = {}
        self.lease: float | None = None
        self.silence = 0.0
        self.word = ""
        self.door: socket.socket | None = None
        self.departed: list[Host] = []
        self.hosts = [Host(self, inlet, outlet, trusted=True)]

    def watch(self, fd: int, callback: Callback, events: int = selectors.EVENT_READ) -> None:
        self.selector.register(fd, events, callback)

    def forget(self, fd: int) -> None:
        self.selector.unregister(fd)

    def after(self, seconds: float, callback: Callback) -> None:
        self.timer_count += 1  # breaks ties: callbacks do not compare
        heapq.heappush(self.timers, (time.monotonic() + seconds, self.timer_count, callback))

    def open_spill(self, kind: int) -> tuple[int, str]:
        os.makedirs(self.spill_dir, mode=0o700, exist_ok=True)
        self.spill_count += 1
        stream = "stdout" if kind == STDOUT else "stderr"
        path = os.path.join(self.spill_dir, f"{self.spill_count}.{stream}")
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600), path

    def configure(self, host: Host, body: Body) -> dict[str, Any]:
        """The first request: limits for commands, where output spills, how long the lease is.

        And, if other hosts may join, the word that they have to say, the variables that
        they are told of, and whether the sandbox goes on when the last host has gone.
        """
        self.supervisors.begin(limits_by_number(body["limits"]))
        self.spill_dir = body["spill_dir"]
        self.outlives = body.get("outlives", False)
        self.env_vars = body.get("env_vars", {})
        self.lease = body["lease"]
        if self.lease is not None:
            self.after(LEASE_TICK, self.on_tick)
        if body.get("word"):
            self.open_door(body["word"])
        return self.about(host)

    def host_called(self, name: str) -> Host:
        for host in (*self.hosts, *self.departed):
            if host.name == name:
                return host
        raise ValueError("there is no such host, or no longer")

    def about(self, host: Host) -> dict[str, Any]:
        """What a host is told of the guest, and what it is called itself."""
        return {
            "host": host.name,
            "protocol": PROTOCOL,
            "pid": os.getpid(),
            "tree_kill": can_adopt and os.path.isdir("/proc/self"),
            "env": dict(os.environ),
            "env_vars": self.env_vars,
        }

    def on_tick(self) -> None:
        """Count how long all hosts have been silent; past the lease they are taken for dead.

        In ticks, not by a clock: a sandbox that was paused has not waited.
        """
        self.silence += LEASE_TICK
        if self.lease is not None and self.silence > self.lease:
            kill_all_below()
        self.after(LEASE_TICK, self.on_tick)

    # hosts

    def open_door(self, word: str) -> None:
        self.word = word
        self.door = socket.socket(socket.AF_UNIX)
        self.door.setblocking(False)
        self.door.bind(MEETING)
        self.door.listen(JOINING)
        self.watch(self.door.fileno(), self.on_knock)

    def on_knock(self) -> None:
        assert self.door is not None, "a knock without a door"
        try:
            connection = self.door.accept()[0]
        except OSError:
            return
        waiting = sum(not host.trusted for host in self.hosts)
        if waiting >= JOINING or connection.fileno() >= self.descriptors:
            connection.close()
            return
        fd = connection.detach()
        # Two numbers: each way is watched by itself.
        host = Host(self, fd, os.dup(fd), trusted=False)
        self.hosts.append(host)
        self.after(WORD_DEADLINE, host.end_unless_trusted)

    def check_word(self, body: Body) -> None:
        """Raise `PermissionError` unless somebody who joins says the word."""
        said = str(body.get("word")).encode()
        if body.get("op") != "join" or not compare_digest(said, self.word.encode()):
            raise PermissionError("the wrong word")

    def on_host_gone(self, host: Host) -> None:
        self.hosts.remove(host)
        if not self.word:
            kill_all_below()
        if host.trusted:
            # Its stream may only have broken: then it comes again, and takes up what it had.
            self.departed.append(host)
            self.after(RETURN_GRACE, lambda: self.on_host_missed(host))

    def on_host_missed(self, host: Host) -> None:
        """A host that has gone has not come again."""
        self.departed.remove(host)
        if not (self.outlives or any(other.trusted for other in self.hosts)):
            kill_all_below()
        host.abandon()

    def memory_ran_out(self) -> bool:
        """Whether the kernel has ended something here for lack of memory since this was asked."""
        before, self.oom_kills = self.oom_kills, oom_kills()
        return self.oom_kills > before

    # the loop

    def run(self) -> None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.watch_signals()
        while True:
            timeout = self.run_timers()
            for host in tuple(self.hosts):
                host.flush()
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
            self.supervisors.reap()

        self.watch(reader, on_signal)

    def run_timers(self) -> float | None:
        """Run what is due; return seconds until the next timer, or None."""
        while self.timers:
            due = self.timers[0][0] - time.monotonic()
            if due > 0:
                return due
            heapq.heappop(self.timers)[2]()
        return None


def oom_kills() -> int:
    """How often the kernel has done that, where the control group can be seen."""
    for path in OOM_COUNTS:
        with contextlib.suppress(OSError), open(path) as file:
            for line in file:
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return 0


def main() -> None:
    """Serve the host on stdin and stdout until it goes."""
    oom_score = OomScore()
    hide()  # before there is anybody to hide from
    inlet, outlet = take_wire()
    try:
        Guest(inlet, outlet, oom_score).run()
    except Exception:  # a host that does not keep to the protocol, or a defect of ours
        sys.excepthook(*sys.exc_info())
        kill_all_below(1)
