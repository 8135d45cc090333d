"""The guest: its hosts, its lease, and the loop that never waits for anything but events."""

from __future__ import annotations

import os
import sys

from .hosts import Host
from .light import signal
from .machine import Machine
from .shield import PR_SET_CHILD_SUBREAPER, OomScore, can_adopt, hide, prctl, take_wire
from .supervisor import limits_by_number
from .trees import kill_all_below
from .wire import PIECE, PROTOCOL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .files import Body
    from .hosts import Operation
    from .joins import Listener
    from .limits import TimeLimits
    from .seal import Seal

LEASE_TICK = 1.0
"""Seconds between two looks at how long the hosts have been silent."""
RETURN_GRACE = 5.0
"""Seconds that a host has to come again when its stream has ended, where hosts can join."""


class Guest:
    """Serves the host on `inlet` and `outlet`, and those that join."""

    def __init__(self, inlet: int, outlet: int, oom_score: OomScore) -> None:
        self.machine = Machine(oom_score)
        self.poller = self.machine.poller
        self.outlives = False
        self.has_image = False
        self.switches = False
        self.env_vars: dict[str, str] = {}
        self.lease: float | None = None
        self.silence = 0.0
        self.listener: Listener | None = None
        self.departed: list[Host] = []
        self.time_limits: TimeLimits | None = None
        self.operations: dict[str, Operation] = {
            "configure": self.configure,
            "join": self.about,
            "succeed": self.succeed,
            "limit_time": self.limit_time,
            "renew": self.renew,
            "processes": self.processes,
        }
        self.hosts = [self.host(inlet, outlet)]

    def host(self, inlet: int, outlet: int, seals: tuple[Seal, Seal] | None = None) -> Host:
        return Host(
            self.machine,
            inlet,
            outlet,
            operations=self.operations,
            on_heard=self.on_heard,
            on_used=self.on_used,
            on_gone=self.on_host_gone,
            seals=seals,
            keeps=seals is not None,
        )

    # requests about the guest itself

    def configure(self, host: Host, body: Body) -> dict[str, Any]:
        """The first request: limits for commands, where output spills, how long the lease is.

        Where the engine set up no network, /etc/hosts; the answer's `fault` is why that failed.

        In a container, also the user of commands, and the variables that its image sets.
        And, if other hosts may join, the token that they have to know, the variables that they
        learn, and whether the sandbox continues when the last host has gone.
        """
        fault = None
        if body.get("hosts") is not None:  # while this is root
            from .unconnected import begin

            fault = begin(body["hosts"])
        self.has_image = "image_env" in body
        if self.has_image:
            self.switches = self.machine.log_in(body["user"], body["image_env"])
        if body.get("listen") is not None:
            host.tunnels.listen(body["listen"])
        self.machine.supervisors.begin(limits_by_number(body["limits"]))
        self.machine.spills.begin(body["spill_dir"])
        self.outlives = body.get("outlives", False)
        self.env_vars = body.get("env_vars", {})
        self.lease = body["lease"]
        if self.lease is not None:
            self.poller.after(LEASE_TICK, self.on_tick)
        if body.get("join_token"):
            from .joins import Listener  # few sandboxes are shared

            most = self.machine.descriptors
            self.listener = Listener(self.poller, body["join_token"], most, self.on_joined)
            host.commands.keeps = True
        return {**self.about(host, body), "fault": fault}

    def about(self, host: Host, body: Body) -> dict[str, Any]:
        """What a host learns of the guest, and what it is called itself."""
        return {
            "host": host.name,
            "protocol": PROTOCOL,
            "pid": os.getpid(),
            "tree_kill": can_adopt and os.path.isdir("/proc/self"),
            "env": dict(os.environ) if self.has_image else {},
            "switches": self.switches,
            "env_vars": self.env_vars,
        }

    def limit_time(self, host: Host, body: Body) -> dict[str, Any]:
        """Say how long the sandbox may live from now on, and how long it may be idle."""
        self.limits.set(body["lifetime"], body["idle_timeout"])
        return {}

    def renew(self, host: Host, body: Body) -> dict[str, Any]:
        self.limits.renew(body["lifetime"])
        return {}

    @property
    def limits(self) -> TimeLimits:
        """Made when they are needed first, as few sandboxes have any."""
        if self.time_limits is None:
            from .limits import TimeLimits

            self.time_limits = TimeLimits(self.poller, lambda: self.machine.roster.busy)
        return self.time_limits

    def processes(self, host: Host, body: Body) -> dict[str, Any]:
        """What can be joined by its id, whichever host has started it."""
        return {"processes": self.machine.roster.describe()}

    def succeed(self, host: Host, body: Body) -> dict[str, Any]:
        """Let a host continue what it had before its stream broke."""
        for old in (*self.hosts, *self.departed):
            if old.name == body["host"]:
                host.commands.take_over(old.commands, body["pending"])
                old.end()
                return {"last": old.commands.last_request}
        raise ValueError("there is no such host, or no longer")

    # hosts

    def on_joined(self, fd: int, theirs: Seal, ours: Seal) -> None:
        # Two numbers: each way is watched by itself.
        host = self.host(fd, os.dup(fd), (theirs, ours))
        self.hosts.append(host)
        from .joins import PROOF_DEADLINE

        self.poller.after(PROOF_DEADLINE, host.end_unless_proven)

    def on_heard(self) -> None:
        self.silence = 0.0

    def on_used(self) -> None:
        """A host asked for something, or said something to what it has started."""
        if self.time_limits is not None:
            self.time_limits.on_used()

    def on_tick(self) -> None:
        """Count how long all hosts have been silent; past the lease they are taken for dead.

        In ticks, not by a clock: a sandbox that was paused has not waited.
        """
        self.silence += LEASE_TICK
        if self.lease is not None and self.silence > self.lease:
            kill_all_below()
        self.poller.after(LEASE_TICK, self.on_tick)

    def on_host_gone(self, host: Host) -> None:
        self.hosts.remove(host)
        if self.listener is None:
            kill_all_below()
        if host.proven:
            # Its stream may only have broken: then it comes again, and continues what it had.
            self.departed.append(host)
            self.poller.after(RETURN_GRACE, lambda: self.on_host_missed(host))

    def on_host_missed(self, host: Host) -> None:
        """A host that has gone has not come again."""
        self.departed.remove(host)
        if not (self.outlives or any(other.proven for other in self.hosts)):
            kill_all_below()
        host.commands.abandon()

    # the loop

    def run(self) -> None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.watch_signals()
        while True:
            self.flush()  # an answer does not wait for what is done after it
            timeout = self.poller.run_timers()
            self.flush()
            self.poller.wait(timeout)

    def flush(self) -> None:
        for host in tuple(self.hosts):
            host.flush()

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
            self.machine.supervisors.reap()

        self.poller.watch(reader, on_signal)


def main() -> None:
    """Serve the host on stdin and stdout until it goes."""
    oom_score = OomScore()
    hide()  # before there is anybody to hide from
    inlet, outlet = take_wire()
    try:
        Guest(inlet, outlet, oom_score).run()
    except Exception:  # a defect of ours
        sys.excepthook(*sys.exc_info())
        kill_all_below(1)
