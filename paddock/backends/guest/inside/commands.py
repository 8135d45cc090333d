"""A command on a channel: its windows, its supervisor, its end.

A command goes through three ends, in any order after the first: its leading process
ends (`status`), the host is answered (`answered`), nothing of its tree is left
(`empty`). It is over when all three have come.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod

from .light import loads, signal, socket
from .pipes import close_streams, make_streams, set_pipe_size
from .streams import Inlet, Outlet, Sink
from .supervisor import EMPTY, FAILED, account_of
from .trees import KILL_ROUND, children_of, descendants, send_signal, stop_and_kill
from .wire import (
    BULK,
    FOREGROUND,
    GONE,
    GROUP,
    LENGTH,
    PIECE,
    REPLY,
    STDERR,
    STDOUT,
    TREE,
    WINDOW,
    frame,
    message,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .machine import Machine
    from .outbox import Outbox
    from .supervisor import Order, Supervisor

KILLED = 128 + signal.SIGKILL
DRAIN_GRACE = 0.1
"""Seconds for which output is awaited that a command's children still hold open."""
START_ROUND = 0.001
"""Seconds between two looks for the process of a command that is just being started."""
ENDING = (signal.SIGTERM, signal.SIGCONT)
HANGING_UP = (signal.SIGHUP, *ENDING)
"""What asks the processes of a terminal to end: an interactive shell ignores SIGTERM."""


class Owner(ABC):
    """The host whose commands they are."""

    outbox: Outbox

    @abstractmethod
    def on_answered(self, command: Command) -> None:
        """Its reply was sent."""

    @abstractmethod
    def on_over(self, command: Command) -> bool:
        """Nothing of it is left. Return whether the host has not heard of that before."""


class Command(Sink):
    """A command, or a job of the guest's own, on one channel."""

    def __init__(
        self,
        machine: Machine,
        owner: Owner,
        channel: int,
        order: Order,
        *,
        stdin: bool,
        keep: int,
        streamed: bool,
    ) -> None:
        self.machine = machine
        self.poller = machine.poller
        self.spills = machine.spills
        account = machine.supervisors.account_for(order)
        self.readers = None if account is None else account.gid
        self.has_terminal = "pty" in order
        self.owner = owner
        self.channel = channel
        self.started = time.monotonic()
        self.status: int | None = None
        self.failure: dict[str, Any] | None = None
        self.background = False
        self.empty = False
        self.answered = False
        self.killing = False
        self.draining = False
        self.owes_gone = False
        self.window = WINDOW
        self.report = bytearray()
        self.reply = b""
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
            Outlet(self, fd, kind, keep=keep, streamed=streamed, spills=spills)
            for fd, kind in ((stdout, STDOUT), (stderr, STDERR))
            if fd is not None
        ]
        self.bulk = streamed and "job" in order
        if self.bulk:
            self.outlets[0].widen(stdout)
        if self.bulk and stdin_fd is not None:
            set_pipe_size(stdin_fd, BULK)
        self.poller.watch(self.supervisor.socket.fileno(), self.on_report)
        self.balance()

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

    def send(self, kind: int, payload: bytes = b"") -> None:
        self.owner.outbox.send(frame(kind, self.channel, payload))

    def send_bulk(self, kind: int, payload: bytes) -> None:
        self.owner.outbox.send_bulk(kind, self.channel, payload)

    def on_stream_ended(self) -> None:
        self.maybe_finish()

    def spend(self, size: int) -> None:
        self.window -= size
        if self.window <= 0:
            self.balance()

    def credit(self, size: int) -> None:
        self.window += size
        self.balance()

    def balance(self) -> None:
        """Read output exactly while the host and the window take it."""
        flowing = self.window > 0 and not self.owner.outbox.congested
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

    def on_all_gone(self) -> None:
        self.empty = True
        self.background = False

    def stop_waiting(self) -> None:
        """The leader has ended a while ago: take what is in the pipes, wait for nothing else."""
        if self.answered or self.killing:
            return
        for outlet in self.outlets:
            outlet.read_rest()
        if self.window <= 0:
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
        if self.owner.on_over(self) and self.owes_gone:
            self.send(GONE)

    def answer(self) -> None:
        assert self.status is not None, "answered before the end"
        self.answered = True
        body: dict[str, Any] = {
            "duration": time.monotonic() - self.started,
            "background": self.background,
        }
        for name, outlet in zip(("stdout", "stderr"), self.outlets):
            body[name] = outlet.finish()
        body.setdefault("stderr", {"dropped": 0})
        if self.failure is not None:
            body["error"] = self.failure
        elif os.WIFSIGNALED(self.status):
            body["exit_code"] = 128 + os.WTERMSIG(self.status)
        else:
            body["exit_code"] = os.WEXITSTATUS(self.status)
        if body.get("exit_code") == KILLED:
            body["oom"] = self.machine.memory_ran_out()
        if self.background:
            self.owes_gone = True
        self.reply = frame(REPLY, self.channel, message(body))
        self.owner.outbox.send(self.reply)
        self.owner.on_answered(self)
        self.balance()  # what still comes is read and thrown away

    # when its host's stream broke

    @property
    def kept_bytes(self) -> int:
        """Of its output, in memory."""
        return sum(outlet.capture.total - outlet.capture.dropped for outlet in self.outlets)

    def send_again(self) -> None:
        """Send what a host has to know that has heard nothing yet."""
        for outlet in self.outlets:
            outlet.send_again(ended=self.answered)
        if self.answered:
            self.owner.outbox.send(self.reply)

    # the host's wishes

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

    def orphan(self) -> None:
        """Its host has gone and it stays: nobody reads what it prints, nobody writes to it."""
        self.inlet.close()
        for outlet in self.outlets:
            outlet.discarding = True
        self.balance()

    def kill(self, grace: float) -> None:
        self.owes_gone = True
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
