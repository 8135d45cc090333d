"""Start isolated processes by a fork of this one: that takes 1 ms, and starting Python 10.

The host starts one for itself, with its own rights. It runs nothing of any sandbox and reads
nothing that a sandbox wrote: a fork of it closes all that is not its own, gives up its rights,
and becomes bubblewrap or a guest. It ends with the host, and all that it started ends with it.

An order is one packet on stdin: JSON, and as descriptors where to report, the process's stdin
and stdout, its stderr, and others. A report is a `STARTED` with the process's id, then an
`ENDED` with its exit code; what the host writes there is the numbers of signals.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import json
import os
import signal
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from ..guest.inside.light import suppress
from ..guest.inside.poller import Poller
from ..guest.inside.shield import redirect_to_null
from ..guest.inside.trees import send_signal
from . import launcher
from .copies import Copies, Look

if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from typing import NoReturn

REPORT = struct.Struct("!Bi")
STARTED, ENDED = 1, 2
ORDER_BYTES = 128 * 1024
"""Some 8 KiB are needed."""
DESCRIPTORS = 64
SPARE_DELAY = 0.005
"""Seconds after an order until the fork for the next one is made: not at the same time as what the
order has begun, and not for each of many that come at once."""


class Server:
    """Takes orders until the host ends."""

    def __init__(self, control: socket.socket, host: int) -> None:
        self.control = control
        self.poller = Poller()
        self.reports: dict[int, int] = {}
        """Where to report, by process."""
        self.copies = Copies()
        self.spare: tuple[int, socket.socket] | None = None
        self.late: Sequence[str] = ()
        """Modules to import when nothing else is to be done."""
        self.shown = b""
        """The last order for a sandbox with an /etc of copies."""
        self.unwatched: set[int] = set()
        """Those of processes that the host has given up."""
        self.poller.watch(host, lambda: os._exit(0))
        self.poller.watch(control.fileno(), self.on_order)
        self.watch_children()

    def run(self) -> NoReturn:
        while True:
            self.poller.wait(self.poller.run_timers())

    def watch_children(self) -> None:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.signal(signal.SIGCHLD, lambda number, stack: None)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

        def on_signal() -> None:
            os.read(reader, 4096)
            self.reap()

        self.poller.watch(reader, on_signal)

    def on_order(self) -> None:
        packet, fds, flags, _ = socket.recv_fds(
            self.control, ORDER_BYTES, DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
        if not packet:
            os._exit(0)
        try:
            # With no descriptors left some are missing: the host sees that its report ends.
            if not flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
                self.start(packet, *fds)
        except OSError as error:
            os.write(fds[2], f"paddock: starting: {error.strerror}\n".encode())
        finally:
            for fd in fds:
                os.close(fd)
        if self.spare is None:
            self.poller.after(SPARE_DELAY, self.make_spare)

    def start(self, packet: bytes, report: int, *streams: int) -> None:
        """Give a process its orders."""
        if b'"modules"' in packet:
            orders = json.loads(packet)
            self.load(orders["modules"])
            self.late = orders.get("late", ())
        elif b'"etc"' in packet:
            self.shown = packet
        pid = self.give(packet, streams)
        self.reports[pid] = report = os.dup(report)
        self.poller.watch(report, lambda: self.on_signal_wanted(pid, report))
        self.tell(report, STARTED, pid)

    def load(self, modules: Sequence[str]) -> None:
        """Import what forks need that stay forks of this process."""
        if missing := [name for name in modules if name not in sys.modules]:
            for name in missing:
                importlib.import_module(name)
            self.spare = None  # it was forked before

    def give(self, packet: bytes, streams: Sequence[int]) -> int:
        """Hand the orders to the spare fork, or to a new one; return its process id."""
        if self.spare is not None:
            (pid, connection), self.spare = self.spare, None
            with connection, suppress(OSError):  # something has killed it
                socket.send_fds(connection, [packet], streams)
                return pid
        pid, connection = self.new_spare()
        with connection:
            socket.send_fds(connection, [packet], streams)
        return pid

    def make_spare(self) -> None:
        self.load(self.late)
        self.late = ()
        with suppress(OSError):  # then the next order makes one
            if self.shown:  # forks find in memory what was read here
                self.copies.of(_looks(json.loads(self.shown)["etc"]["copies"]), {})
            self.spare = self.spare or self.new_spare(self.shown)

    def new_spare(self, shown: bytes = b"") -> tuple[int, socket.socket]:
        """A fork that waits for its orders: a fork takes longer than all that it does then.

        It makes ahead what an order like the one `shown` needs.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        with theirs:
            pid = os.fork()
            if pid == 0:
                be_child(theirs, self.copies, parent, shown)
        return pid, ours

    def tell(self, report: int, kind: int, value: int) -> None:
        with suppress(BrokenPipeError):  # the host has lost interest
            os.write(report, REPORT.pack(kind, value))

    def on_signal_wanted(self, pid: int, report: int) -> None:
        """Send the process a signal for the host, or take it that the host has given it up."""
        try:
            numbers = os.read(report, 16)
        except ConnectionResetError:
            numbers = b""
        if not numbers:
            self.poller.forget(report)
            self.unwatched.add(report)
        for number in numbers or (signal.SIGTERM,):
            send_signal(pid, number)

    def reap(self) -> None:
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if pid in self.reports:
                    self.on_ended(self.reports.pop(pid), os.waitstatus_to_exitcode(status))
        except ChildProcessError:
            return

    def on_ended(self, report: int, code: int) -> None:
        if report in self.unwatched:
            self.unwatched.remove(report)
        else:
            self.poller.forget(report)
        self.tell(report, ENDED, code)
        os.close(report)


def be_child(connection: socket.socket, copies: Copies, parent: int, shown: bytes) -> NoReturn:
    """The whole life of a fork."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()  # a terminal's Ctrl-C is for the host to act on
        close_all_but({connection.fileno()})
        ahead = make_ahead(shown, copies) if shown else None
        packet, streams, _, _ = socket.recv_fds(connection, ORDER_BYTES, DESCRIPTORS)
        if packet:
            obey(json.loads(packet), streams, copies, parent, ahead)
    except OSError as failure:
        what = f"{failure.filename or 'starting'}: {failure.strerror or failure}"
        os.write(2, f"paddock: {what}\n".encode())
    except Exception as failure:  # a defect of ours
        os.write(2, f"paddock: {failure!r}\n".encode())
    finally:
        os._exit(1)


class Ahead(NamedTuple):
    """A stage that was made before there were orders, and the /etc that it has."""

    etc: dict[str, Any]
    tree: int


def make_ahead(shown: bytes, copies: Copies) -> Ahead | None:
    """Prepare what takes time and is the same for most sandboxes; only one will use it."""
    etc = json.loads(shown)["etc"]
    try:
        return Ahead(etc, launcher.new_stage(contents(etc, copies)))
    except OSError:  # retried when it is needed, and the error is reported then
        return None


def contents(etc: dict[str, Any], copies: Copies) -> dict[str, Any]:
    """An /etc as `copies.write` takes it."""
    files = copies.of(_looks(etc["copies"]), etc["texts"])
    return {"files": files, "folders": etc["folders"], "links": etc["links"]}


def obey(
    orders: dict[str, Any],
    streams: Sequence[int],
    copies: Copies,
    parent: int,
    ahead: Ahead | None,
) -> NoReturn:
    """Become what the orders say."""
    wire, stderr, *passed = streams
    wanted = {0: wire, 1: wire, 2: stderr, **dict(zip(orders["passed"], passed, strict=True))}
    if ahead is not None and ahead.etc == orders.get("etc"):
        orders["stage"] = max(wanted) + 1
        wanted[orders["stage"]] = ahead.tree
    arrange(wanted)
    if "argv" not in orders:
        from . import warden

        (warden.be_plain_guest if "umask" in orders else warden.guard)(orders, parent)
    if "etc" in orders and "stage" not in orders:
        orders["etc"] = contents(orders["etc"], copies)
    launcher.launch(orders)


def _looks(told: Sequence[Sequence[Any]]) -> list[Look]:
    return [Look(*look) for look in told]


def arrange(wanted: dict[int, int]) -> None:
    """Give the descriptors `wanted` their numbers, and close all others."""
    above = max(*wanted, *wanted.values()) + 1
    moved = {number: fcntl.fcntl(fd, fcntl.F_DUPFD, above) for number, fd in wanted.items()}
    for number, fd in moved.items():
        os.dup2(fd, number)
    close_all_but(wanted)


def close_all_but(kept: Container[int]) -> None:
    for number in map(int, os.listdir("/proc/self/fd")):
        if number not in kept:
            with suppress(OSError):  # the listing's own descriptor
                os.close(number)


def main() -> NoReturn:
    """Serve the host, whose process id is the argument, on stdin."""
    host = int(sys.argv[1])
    os.setsid()
    os.umask(0o022)
    os.chdir("/")
    watched = os.pidfd_open(host)
    if os.getppid() != host:
        os._exit(0)
    control = socket.socket(fileno=os.dup(0))
    close_all_but({0, 1, 2, watched, control.fileno()})
    redirect_to_null(0, 1, 2)
    gc.disable()  # there are no cycles here, and each look for some would copy memory of forks
    Server(control, watched).run()
