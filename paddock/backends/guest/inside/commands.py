"""A command on a channel: its windows, its supervisor, its end.

A command goes through three ends, in any order after the first: its leading process
ends (`status`), the host is answered (`answered`), nothing of its tree is left
(`empty`). It is over when all three have come.
"""

from __future__ import annotations

import os
import time

from .light import loads, signal, socket
from .pipes import close_streams, make_streams, set_pipe_size
from .roster import Listed
from .streams import Inlet, Outlet, Peer, Sink
from .supervisor import EMPTY, FAILED, account_of
from .trees import KILL_ROUND, children_of, descendants, send_signal, stop_and_kill
from .wire import (
    BULK,
    FOREGROUND,
    GROUP,
    LENGTH,
    PIECE,
    STDERR,
    STDOUT,
    TREE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .machine import Machine
    from .roster import Entry
    from .supervisor import Order, Supervisor

KILLED = 128 + signal.SIGKILL
DRAIN_GRACE = 0.1
"""Seconds for which output is awaited that a command's children still hold open."""
START_ROUND = 0.001
"""Seconds between two looks for the process of a command that is just being started."""
ENDING = (signal.SIGTERM, signal.SIGCONT)
HANGING_UP = (signal.SIGHUP, *ENDING)
"""What asks the processes of a terminal to end: an interactive shell ignores SIGTERM."""


class Command(Sink, Listed):
    """A command, or a job of the guest's own, and the hosts that have subscribed to it."""

    def __init__(
        self,
        machine: Machine,
        order: Order,
        *,
        stdin: bool,
        keep: int,
        bulk: bool,
        entry: Entry | None,
    ) -> None:
        self.machine = machine
        self.poller = machine.poller
        self.spills = machine.spills
        account = machine.supervisors.account_for(order)
        self.readers = None if account is None else account.gid
        self.has_terminal = "pty" in order
        self.entry = entry
        self.detached = False
        self.subscribers: list[Peer] = []
        self.started = time.monotonic()
        self.status: int | None = None
        self.failure: dict[str, Any] | None = None
        self.background = False
        self.empty = False
        self.answered = False
        self.killing = False
        self.draining = False
        self.report = bytearray()
        self.outcome: dict[str, Any] = {}
        near, far = self.make_streams(order, stdin=stdin)
        try:
            self.supervisor: Supervisor | None = machine.supervisors.employ(order, far)
        except BaseException:
            close_streams(near)
            raise
        finally:
            close_streams(far)
        stdin_fd, stdout, stderr = near
        self.inlet = self.make_inlet(stdin_fd)
        spills = "job" not in order
        self.outlets = [
            Outlet(self, fd, kind, keep=keep, spills=spills)
            for fd, kind in ((stdout, STDOUT), (stderr, STDERR))
            if fd is not None
        ]
        self.bulk = bulk
        if self.bulk:
            self.outlets[0].widen(stdout)
        if self.bulk and stdin_fd is not None:
            set_pipe_size(stdin_fd, BULK)
        self.poller.watch(self.supervisor.socket.fileno(), self.on_report)
        machine.roster.commands.add(self)

    def make_streams(
        self, order: Order, *, stdin: bool
    ) -> tuple[tuple[int | None, int, int | None], list[int]]:
        """Our ends of its streams, and the far ones."""
        most = self.machine.descriptors
        if not self.has_terminal:
            return make_streams(stdin, bool(order.get("merge_output")), most, order.get("source"))
        from .terminals import make_terminal  # few commands have one

        account = account_of(order) or self.machine.account
        return make_terminal(order["pty"]["rows"], order["pty"]["cols"], account, most)

    def make_inlet(self, fd: int | None) -> Inlet:
        if not self.has_terminal or fd is None:
            return Inlet(self, fd)
        from .terminals import TerminalInlet

        return TerminalInlet(self, fd)

    # output

    def subscribe(self, subscriber: Peer) -> None:
        self.subscribers.append(subscriber)
        self.balance()

    def on_output(self, kind: int, data: bytes, to_head: int) -> None:
        for each in self.subscribers:
            each.on_output(kind, data, to_head)
        if not self.has_room:
            self.balance()

    def on_stream_ended(self) -> None:
        self.maybe_finish()

    def on_stdin_closed(self) -> None:
        for each in self.subscribers:
            each.on_stdin_closed()

    @property
    def has_room(self) -> bool:
        return all(each.has_room for each in self.subscribers)

    def balance(self) -> None:
        """Read output exactly while all hosts and their windows take it."""
        flowing = self.has_room and not any(each.congested for each in self.subscribers)
        for outlet in self.outlets:
            if flowing or outlet.discarding:
                outlet.resume()
            else:
                outlet.pause()

    # the supervisor's side

    def on_report(self) -> None:
        if self.supervisor is None:
            return
        try:
            data = self.supervisor.socket.recv(PIECE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # it was killed before it had read its order
        if not data:
            self.on_supervisor_killed()
            return
        self.report += data
        while self.take_report():
            pass
        if self.status is not None and not self.draining:
            self.draining = True
            self.inlet.close()
            self.poller.after(DRAIN_GRACE, self.stop_waiting)
        self.maybe_finish()

    def take_report(self) -> bool:
        """Act on one whole report; False when there is none."""
        report = self.report
        if report[:1] == EMPTY:
            self.on_empty()  # the last report
            return False
        if len(report) < 1 + LENGTH.size:
            return False
        (value,) = LENGTH.unpack_from(report, 1)
        end = 1 + LENGTH.size + (value if report[:1] == FAILED else 1)
        if len(report) < end:
            return False
        if report[:1] == FAILED:
            self.failure = loads(bytes(report[1 + LENGTH.size : end]))
            self.status = 0
        elif self.failure is None:
            self.status = value
            self.background = report[end - 1 : end] == b"1"
        del report[:end]
        return True

    def on_empty(self) -> None:
        """Nothing of the command is left; its supervisor is free for the next."""
        supervisor = self.leave()
        self.machine.supervisors.release(supervisor)
        self.on_all_gone()

    def on_supervisor_killed(self) -> None:
        """Somebody killed the supervisor, so its tree is the guest's to end."""
        if self.status is None:
            self.failure = {"kind": "Killed", "text": "the command killed its supervisor"}
            self.status = 0
        self.killing = True
        self.machine.supervisors.end_tree(self.leave(), self.on_tree_ended)

    def on_tree_ended(self) -> None:
        self.on_all_gone()
        self.maybe_finish()

    def leave(self) -> Supervisor:
        supervisor = self.supervisor
        assert supervisor is not None, "left its supervisor twice"
        self.supervisor = None
        self.poller.forget(supervisor.socket.fileno())
        return supervisor

    # the end

    @property
    def exit_code(self) -> int | None:
        if self.status is None:
            return None
        if self.failure is not None:
            return KILLED
        if os.WIFSIGNALED(self.status):
            return 128 + os.WTERMSIG(self.status)
        return os.WEXITSTATUS(self.status)

    def on_all_gone(self) -> None:
        self.empty = True
        self.background = False

    def stop_waiting(self) -> None:
        """The leader has ended a while ago: take what is in the pipes, wait for nothing else."""
        if self.answered or self.killing:
            return
        for outlet in self.outlets:
            outlet.read_rest()
        if not self.has_room:
            self.poller.after(DRAIN_GRACE, self.stop_waiting)
            return
        self.answer()
        self.maybe_finish()

    def maybe_finish(self) -> None:
        """Answer once the leader has ended and its output is complete; end once all is gone."""
        if self.empty and (self.killing or self.answered or self.drained):
            self.end()
        elif self.status is not None and not (self.answered or self.killing) and self.drained:
            self.answer()

    @property
    def drained(self) -> bool:
        return all(outlet.fd is None for outlet in self.outlets)

    def end(self) -> None:
        """Nothing of the command is left: close everything and forget it."""
        if not self.answered:
            for outlet in self.outlets:
                outlet.read_rest()
            self.answer()
        self.inlet.close()
        for outlet in self.outlets:
            outlet.close()
        self.machine.roster.on_over(self)
        subscribers, self.subscribers = self.subscribers, []
        for each in subscribers:
            each.end()

    def answer(self) -> None:
        assert self.status is not None, "answered before the end"
        self.answered = True
        body = self.outcome
        body["duration"] = time.monotonic() - self.started
        for name, outlet in zip(("stdout", "stderr"), self.outlets):
            body[name] = outlet.finish()
        body.setdefault("stderr", {"dropped": 0})
        if self.failure is not None:
            body["error"] = self.failure
        else:
            body["exit_code"] = self.exit_code
        if body.get("exit_code") == KILLED:
            body["oom"] = self.machine.memory_ran_out()
        for each in self.subscribers:
            each.answer()
        self.balance()  # what still comes is read and thrown away

    @property
    def kept_bytes(self) -> int:
        return sum(outlet.capture.total - outlet.capture.dropped for outlet in self.outlets)

    def forget_output(self) -> None:
        for outlet in self.outlets:
            outlet.capture.forget()

    # the wishes of hosts

    def signal(self, number: int, scope: int) -> None:
        """Signal the command, also if it is only just being started; `scope` is of `wire`."""
        self.on_report()  # its end may have been told already, and its children be others
        if self.supervisor is None or (self.status is not None and scope != TREE):
            return
        leader = children_of(self.supervisor.pid)[:1]
        if not leader:
            self.poller.after(START_ROUND, lambda: self.signal(number, scope))
        elif scope == TREE:
            for pid in descendants(self.supervisor.pid):
                send_signal(pid, number)
        elif not (scope == FOREGROUND and self.signal_foreground(number)):
            send_signal(-leader[0] if scope == GROUP else leader[0], number)

    def signal_foreground(self, number: int) -> bool:
        """Signal the terminal's foreground group; False where there is none."""
        near = self.outlets[0].fd
        if not self.has_terminal or near is None:
            return False
        from .terminals import signal_foreground

        return signal_foreground(near, number)

    def resize(self, cols: int, rows: int) -> None:
        near = self.outlets[0].fd
        if self.has_terminal and near is not None:
            from .terminals import set_size

            set_size(near, rows, cols)

    def kill(self, grace: float) -> None:
        if self.killing:
            return
        self.killing = True
        self.inlet.close()
        if self.empty:
            self.end()  # it has ended by itself, and only its output waits for a reader
        else:
            self.terminate(time.monotonic() + grace)

    def terminate(self, deadline: float) -> None:
        """Ask all of the tree to end, as soon as there is one; kill what is there at `deadline`."""
        if self.supervisor is None:
            return
        pids = descendants(self.supervisor.pid)
        for pid in pids:
            for number in HANGING_UP if self.has_terminal else ENDING:
                send_signal(pid, number)
        left = deadline - time.monotonic()
        if pids or left <= 0:
            self.poller.after(max(0.0, left), self.kill_round)
        else:
            self.poller.after(min(START_ROUND, left), lambda: self.terminate(deadline))

    def kill_round(self) -> None:
        supervisor = self.supervisor
        if supervisor is None or not supervisor.alive:
            return
        send_signal(supervisor.pid, signal.SIGCONT)  # its command may have stopped it
        stop_and_kill(lambda: children_of(supervisor.pid))
        self.poller.after(KILL_ROUND, self.kill_round)
