"""A command on a channel: its pipes, its windows, its end.

A command goes through three ends, in any order after the first: its leading process
ends (`status`), the host is answered (`answered`), nothing of its tree is left
(`empty`). It is over when all three have come.
"""

from __future__ import annotations

import errno
import json
import os
import selectors
import signal
import socket
import time
from collections import deque

from .files import write_all
from .supervisor import EMPTY, FAILED
from .trees import KILL_ROUND, children_of, descendants, send_signal, stop_and_kill
from .wire import (
    GONE,
    INLINE,
    LENGTH,
    PIECE,
    REPLY,
    STDERR,
    STDIN_CLOSED,
    STDIN_CREDIT,
    STDOUT,
    WINDOW,
    Capture,
    frame,
    message,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from .hosts import Host
    from .supervisor import Order, Supervisor

SPILL_LIMIT = 256 * 1024 * 1024
"""Bytes of one stream kept in its spill file: enough for any log, not for a full disk."""
KILLED = 128 + signal.SIGKILL
DRAIN_GRACE = 0.1
"""Seconds for which output is awaited that a command's children still hold open."""
START_ROUND = 0.001
"""Seconds between two looks for the process of a command that is just being started."""
PIPE_MAX = 1024 * 1024
"""Most bytes that a pipe holds (Linux's default for unprivileged users)."""


class Outlet:
    """One output stream of a command: from its pipe to the host, the rest to a file."""

    def __init__(
        self, command: Command, fd: int, kind: int, *, keep: int, streamed: bool, spills: bool
    ) -> None:
        self.guest = command.guest
        self.host = command.host
        self.command = command
        self.fd: int | None = fd
        self.kind = kind
        self.keep = keep
        self.streamed = streamed
        self.capture = Capture(keep)
        self.spilling = spills
        self.spill: int | None = None
        self.spill_path: str | None = None
        self.spilled = 0
        self.discarding = False
        self.reading = False
        os.set_blocking(fd, False)

    def pause(self) -> None:
        if self.reading and self.fd is not None:
            self.reading = False
            self.guest.forget(self.fd)

    def resume(self) -> None:
        if not self.reading and self.fd is not None:
            self.reading = True
            self.guest.watch(self.fd, self.on_readable)

    def on_readable(self) -> None:
        if self.read_some() is False:
            self.close()
            self.command.maybe_finish()

    def read_some(self) -> bool | None:
        """Read once. True: there may be more; False: the stream ended; None: nothing there now."""
        assert self.fd is not None, "read after its end"
        try:
            data = os.read(self.fd, PIECE)
        except BlockingIOError:
            return None
        if not data:
            return False
        if not self.discarding:
            self.take(data)
        return True

    def read_rest(self) -> None:
        """Read what a pipe can hold at the most, and not what is still being written to it."""
        for _ in range(PIPE_MAX // PIECE):
            if self.fd is None or self.command.window <= 0:
                return
            more = self.read_some()
            if more is False:
                self.close()
            if not more:
                return

    def take(self, data: bytes) -> None:
        if self.spilling and self.capture.total + len(data) > self.keep:
            self.spill_over(data)
        to_head = self.capture.feed(data)
        if self.streamed:
            self.host.send(frame(self.kind, self.command.channel, data))
            self.command.spend(len(data))
        elif to_head:
            self.host.send(frame(self.kind, self.command.channel, data[:to_head]))

    def spill_over(self, data: bytes) -> None:
        try:
            if self.spill is None:
                self.spill, self.spill_path = self.guest.open_spill(self.kind)
                data = bytes(self.capture.head + self.capture.tail) + data  # nothing dropped yet
            room = min(SPILL_LIMIT - self.spilled, self.guest.spill_room)
            self.spilling = len(data) <= room
            data = data[:room]
            write_all(self.spill, data)
            self.spilled += len(data)
            self.guest.spill_room -= len(data)
        except OSError:
            self.spilling = False  # a full disk ends the copy, not the command

    def finish(self) -> dict[str, Any]:
        """Send the tail that the host has not got yet, and throw away what still comes.

        Returns what the host is told at the end.
        """
        self.discarding = True
        if not self.streamed:
            self.send_piecewise(bytes(self.capture.tail))
        told: dict[str, Any] = {"dropped": self.capture.dropped}
        if self.spill is not None:
            os.close(self.spill)
            self.spill = None
            told["spill"] = self.spill_path
            told["spill_truncated"] = not self.spilling
        return told

    def send_piecewise(self, data: bytes) -> None:
        for at in range(0, len(data), INLINE):
            self.host.send(frame(self.kind, self.command.channel, data[at : at + INLINE]))

    def send_again(self, *, ended: bool) -> None:
        """The head, and once it has ended the tail, for a host that has got nothing."""
        self.send_piecewise(bytes(self.capture.head))
        if ended:
            self.send_piecewise(bytes(self.capture.tail))

    def close(self) -> None:
        self.pause()
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class Command:
    """A command, or a job of the guest's own, on one channel."""

    def __init__(
        self,
        host: Host,
        channel: int,
        order: Order,
        *,
        stdin: bool,
        keep: int,
        streamed: bool,
    ) -> None:
        self.host = host
        self.guest = guest = host.guest
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
        self.stdin_queue: deque[memoryview] = deque()
        self.stdin_eof = False
        self.stdin_watched = False
        self.report = bytearray()
        self.reply = b""
        near, far = make_streams(stdin, guest.descriptors)
        try:
            self.supervisor: Supervisor | None = guest.employ(order, far)
        except BaseException:
            close_streams(near)
            raise
        finally:
            close_streams(far)
        self.stdin, stdout, stderr = near
        spills = "job" not in order
        self.outlets = [
            Outlet(self, fd, kind, keep=keep, streamed=streamed, spills=spills)
            for fd, kind in ((stdout, STDOUT), (stderr, STDERR))
        ]
        guest.watch(self.supervisor.socket.fileno(), self.on_report)
        self.balance()

    # output

    def spend(self, size: int) -> None:
        self.window -= size
        if self.window <= 0:
            self.balance()

    def credit(self, size: int) -> None:
        self.window += size
        self.balance()

    def balance(self) -> None:
        """Read output exactly while the host and the window take it."""
        flowing = self.window > 0 and not self.host.congested
        for outlet in self.outlets:
            if flowing or outlet.discarding:
                outlet.resume()
            else:
                outlet.pause()

    # stdin

    def feed_stdin(self, data: bytes) -> None:
        if self.stdin is not None:
            self.stdin_queue.append(memoryview(data))
            self.write_stdin()

    def end_stdin(self) -> None:
        self.stdin_eof = True
        self.write_stdin()

    def write_stdin(self) -> None:
        fd = self.stdin
        if fd is None:
            return
        taken = 0
        try:
            while self.stdin_queue:
                piece = self.stdin_queue[0]
                done = os.write(fd, piece)
                taken += done
                if done < len(piece):
                    self.stdin_queue[0] = piece[done:]
                else:
                    self.stdin_queue.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self.close_stdin()
            self.host.send(frame(STDIN_CLOSED, self.channel))
            return
        if taken:
            self.host.send(frame(STDIN_CREDIT, self.channel, LENGTH.pack(taken)))
        if not self.stdin_queue and self.stdin_eof:
            self.close_stdin()
        else:
            self.watch_stdin(bool(self.stdin_queue))

    def watch_stdin(self, wanted: bool) -> None:
        if wanted != self.stdin_watched and self.stdin is not None:
            self.stdin_watched = wanted
            if wanted:
                self.guest.watch(self.stdin, self.write_stdin, selectors.EVENT_WRITE)
            else:
                self.guest.forget(self.stdin)

    def close_stdin(self) -> None:
        if self.stdin is not None:
            self.watch_stdin(False)
            os.close(self.stdin)
            self.stdin = None
            self.stdin_queue.clear()

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
            self.close_stdin()
            self.guest.after(DRAIN_GRACE, self.stop_waiting)
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
            self.failure = json.loads(report[1 + LENGTH.size : end])
            self.status = 0
        elif self.failure is None:
            self.status = value
            self.background = report[end - 1 : end] == b"1"
        del report[:end]
        return True

    def on_empty(self) -> None:
        """Nothing of the command is left; its supervisor is free for the next."""
        supervisor = self.leave()
        self.guest.release(supervisor)
        self.on_all_gone()

    def on_supervisor_killed(self) -> None:
        """Somebody killed the supervisor, so its tree is the guest's to end."""
        if self.status is None:
            self.failure = {"kind": "Killed", "text": "the command killed its supervisor"}
            self.status = 0
        self.killing = True
        self.guest.bury(self.leave(), self.on_buried)

    def on_buried(self) -> None:
        self.on_all_gone()
        self.maybe_finish()

    def leave(self) -> Supervisor:
        supervisor = self.supervisor
        assert supervisor is not None, "left its supervisor twice"
        self.supervisor = None
        self.guest.forget(supervisor.socket.fileno())
        return supervisor

    # the end

    def on_all_gone(self) -> None:
        self.empty = True
        self.background = False

    def stop_waiting(self) -> None:
        """The leader has ended a while ago: take what is in the pipes, wait for nobody else."""
        if self.answered or self.killing:
            return
        for outlet in self.outlets:
            outlet.read_rest()
        if self.window <= 0:
            self.guest.after(DRAIN_GRACE, self.stop_waiting)
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
        self.close_stdin()
        for outlet in self.outlets:
            outlet.close()
        if self.host.commands.pop(self.channel, None) is not None and self.owes_gone:
            self.host.send(frame(GONE, self.channel))

    def answer(self) -> None:
        assert self.status is not None, "answered before the end"
        self.answered = True
        body: dict[str, Any] = {
            "duration": time.monotonic() - self.started,
            "background": self.background,
        }
        for name, outlet in zip(("stdout", "stderr"), self.outlets):
            body[name] = outlet.finish()
        if self.failure is not None:
            body["error"] = self.failure
        elif os.WIFSIGNALED(self.status):
            body["exit_code"] = 128 + os.WTERMSIG(self.status)
        else:
            body["exit_code"] = os.WEXITSTATUS(self.status)
        if body.get("exit_code") == KILLED:
            body["oom"] = self.guest.memory_ran_out()
        if self.background:
            self.owes_gone = True
        self.reply = frame(REPLY, self.channel, message(body))
        self.host.send(self.reply)
        self.host.remember(self)
        self.balance()  # what still comes is read and thrown away

    # when its host's stream broke

    @property
    def kept_bytes(self) -> int:
        """Of its output, in memory."""
        return sum(outlet.capture.total - outlet.capture.dropped for outlet in self.outlets)

    def move(self, host: Host) -> None:
        """Belong to the host that takes the place of the one before."""
        self.host = host
        for outlet in self.outlets:
            outlet.host = host

    def send_again(self) -> None:
        """Send what a host has to know that has heard nothing yet."""
        for outlet in self.outlets:
            outlet.send_again(ended=self.answered)
        if self.answered:
            self.host.send(self.reply)

    # the host's wishes

    def signal(self, number: int) -> None:
        """Signal the leading process, also if it is only just being started."""
        self.on_report()  # its end may have been told already, and its children be others
        if self.supervisor is None or self.status is not None:
            return
        leader = children_of(self.supervisor.pid)[:1]
        for pid in leader:
            send_signal(pid, number)
        if not leader:
            self.guest.after(START_ROUND, lambda: self.signal(number))

    def orphan(self) -> None:
        """Its host has gone and it stays: nobody reads what it prints, nobody writes to it."""
        self.close_stdin()
        for outlet in self.outlets:
            outlet.discarding = True
        self.balance()

    def kill(self, grace: float) -> None:
        self.owes_gone = True
        if self.killing:
            return
        self.killing = True
        self.close_stdin()
        if self.empty:
            self.end()  # it has ended by itself, and only its output waits for a reader
        elif self.supervisor is not None:
            pids = descendants(self.supervisor.pid)
            for pid in pids:
                send_signal(pid, signal.SIGTERM)
                send_signal(pid, signal.SIGCONT)
            # Nothing there yet: it is being started, and has nothing to tidy up.
            self.guest.after(grace if pids else KILL_ROUND, self.kill_round)

    def kill_round(self) -> None:
        supervisor = self.supervisor
        if supervisor is None or not supervisor.alive:
            return
        send_signal(supervisor.pid, signal.SIGCONT)  # its command may have stopped it
        stop_and_kill(lambda: children_of(supervisor.pid))
        self.guest.after(KILL_ROUND, self.kill_round)


def make_streams(stdin: bool, most: int) -> tuple[tuple[int | None, int, int], list[int]]:
    """Pipes for a command: our ends of stdin (None without), stdout, stderr; and the far ends.

    Raises `OSError` when descriptors from `most` on would be needed.
    """
    opened: list[int] = []
    try:
        if stdin:
            opened += os.pipe()
            os.set_blocking(opened[1], False)
        else:
            opened.append(os.open(os.devnull, os.O_RDONLY))
        opened += os.pipe()
        opened += os.pipe()
        if max(opened) >= most:
            raise OSError(errno.EMFILE, "Too many commands at once")
    except OSError:
        close_streams(opened)
        raise
    out, out_far, err, err_far = opened[-4:]
    return (opened[1] if stdin else None, out, err), [opened[0], out_far, err_far]


def close_streams(fds: Iterable[int | None]) -> None:
    for fd in fds:
        if fd is not None:
            os.close(fd)
