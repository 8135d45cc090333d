"""A command on a channel: its pipes, its windows, its end."""

from __future__ import annotations

import json
import os
import selectors
import signal
import time

from .files import write_all
from .supervisor import EMPTY, FAILED
from .trees import KILL_ROUND, children_of, descendants, send_signal, stop_and_kill
from .wire import (
    GONE,
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

SPILL_LIMIT = 256 * 1024 * 1024
"""Bytes of one stream kept in its spill file: enough for any log, not for a full disk."""
DRAIN_GRACE = 0.1
"""Seconds for which output is awaited that a command's children still hold open."""
PIPE_MAX = 1024 * 1024
"""Most bytes that a pipe holds (Linux's default for unprivileged users)."""


class Outlet:
    """One output stream of a command: from its pipe to the host, the rest to a file."""

    def __init__(self, guest, command, fd, kind, keep, streamed):
        self.guest = guest
        self.command = command
        self.fd = fd
        self.kind = kind
        self.streamed = streamed
        self.capture = Capture(keep)
        self.keep = keep
        self.spill = None
        self.spill_path = None
        self.spilled = 0
        self.spill_truncated = False
        self.discarding = False
        self.reading = False
        os.set_blocking(fd, False)

    def pause(self):
        if self.reading:
            self.reading = False
            self.guest.forget(self.fd)

    def resume(self):
        if not self.reading and self.fd is not None:
            self.reading = True
            self.guest.watch(self.fd, self.on_readable)

    def on_readable(self):
        if self.read_some() is False:
            self.close()
            self.command.maybe_finish()

    def read_some(self):
        """Read once. True: there may be more; False: the stream ended; None: nothing there now."""
        try:
            data = os.read(self.fd, PIECE)
        except BlockingIOError:
            return None
        if not data:
            return False
        if not self.discarding:
            self.take(data)
        return True

    def read_rest(self):
        """Read what a pipe can hold at the most, and not what is still being written to it."""
        for _ in range(PIPE_MAX // PIECE):
            if self.fd is None or self.command.window <= 0:
                return
            more = self.read_some()
            if more is False:
                self.close()
            if not more:
                return

    def take(self, data):
        to_head = self.capture.feed(data)
        if self.streamed:
            self.guest.send(frame(self.kind, self.command.channel, data))
            self.command.spend(len(data))
        elif to_head:
            self.guest.send(frame(self.kind, self.command.channel, data[:to_head]))
        if self.capture.total > self.keep:
            self.spill_over(data)

    def spill_over(self, data):
        if self.spill_truncated:
            return
        try:
            if self.spill is None:
                self.spill_path = self.guest.spill_name(self.command.channel, self.kind)
                self.spill = os.open(
                    self.spill_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600
                )
                data = self.capture.kept()  # nothing has been dropped yet
            room = SPILL_LIMIT - self.spilled
            write_all(self.spill, data[:room])
            self.spilled += min(room, len(data))
            self.spill_truncated = len(data) > room
        except OSError:
            self.spill_truncated = True  # a full disk ends the copy, not the command

    def finish(self):
        """What the host is told at the end, and the tail that it has not got yet."""
        if self.spill is not None:
            os.close(self.spill)
            self.spill = None
        tail = b"" if self.streamed else bytes(self.capture.tail)
        told = {"tail": len(tail), "dropped": self.capture.dropped}
        if self.spill_path is not None:
            told["spill"] = self.spill_path
            told["spill_truncated"] = self.spill_truncated
        return told, tail

    def close(self):
        self.pause()
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


def make_streams(stdin):
    """Pipes for a command: our end of stdin (None without), stdout, stderr, and the far ends."""
    far = []
    if stdin:
        inner, ours = os.pipe()
        os.set_blocking(ours, False)
    else:
        inner, ours = os.open(os.devnull, os.O_RDONLY), None
    far.append(inner)
    near = []
    for _ in ("stdout", "stderr"):
        reader, writer = os.pipe()
        near.append(reader)
        far.append(writer)
    return ours, near[0], near[1], far


class Command:
    """A command, or a job of the guest's own, on one channel."""

    def __init__(self, guest, channel, order, *, stdin, keep, streamed):
        self.guest = guest
        self.channel = channel
        self.started = time.monotonic()
        self.status = None
        self.failure = None
        self.background = False
        self.empty = False
        self.answered = False
        self.killing = False
        self.kill_asked = False
        self.window = WINDOW
        self.stdin_queue = []
        self.stdin_eof = False
        self.stdin_watched = False
        self.report = bytearray()
        self.stdin, stdout, stderr, far_ends = make_streams(stdin)
        try:
            self.supervisor = guest.employ(order, far_ends)
        finally:
            for fd in far_ends:
                os.close(fd)
        self.outlets = [
            Outlet(guest, self, stdout, STDOUT, keep, streamed),
            Outlet(guest, self, stderr, STDERR, keep, streamed),
        ]
        guest.watch(self.supervisor.socket.fileno(), self.on_report)
        self.balance()

    # output

    def spend(self, size):
        self.window -= size
        if self.window <= 0:
            self.balance()

    def credit(self, size):
        self.window += size
        self.balance()

    def balance(self):
        """Read output exactly while the host and the window take it."""
        flowing = self.window > 0 and not self.guest.congested
        for outlet in self.outlets:
            if flowing or outlet.discarding:
                outlet.resume()
            else:
                outlet.pause()

    # stdin

    def feed_stdin(self, data):
        if self.stdin is None:
            return
        self.stdin_queue.append(memoryview(data))
        self.write_stdin()

    def end_stdin(self):
        self.stdin_eof = True
        self.write_stdin()

    def write_stdin(self):
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
                    self.stdin_queue.pop(0)
        except BlockingIOError:
            pass
        except OSError:
            self.close_stdin()
            self.guest.send(frame(STDIN_CLOSED, self.channel))
            return
        if taken:
            self.guest.send(frame(STDIN_CREDIT, self.channel, LENGTH.pack(taken)))
        if not self.stdin_queue and self.stdin_eof:
            self.close_stdin()
        else:
            self.watch_stdin(bool(self.stdin_queue))

    def watch_stdin(self, wanted):
        if wanted != self.stdin_watched:
            self.stdin_watched = wanted
            if wanted:
                self.guest.watch(self.stdin, self.write_stdin, selectors.EVENT_WRITE)
            else:
                self.guest.forget(self.stdin)

    def close_stdin(self):
        if self.stdin is not None:
            self.watch_stdin(False)
            os.close(self.stdin)
            self.stdin = None
            self.stdin_queue.clear()

    # life and death

    def on_report(self):
        data = self.supervisor.socket.recv(PIECE)
        if not data:
            self.on_supervisor_killed()
            return
        self.report += data
        while not self.empty and self.take_report():
            pass
        if self.status is not None and not self.answered:
            self.close_stdin()
            self.guest.after(DRAIN_GRACE, self.stop_waiting)
        self.maybe_finish()

    def take_report(self):
        """Act on one whole report; False when there is none."""
        report = self.report
        if report[:1] == EMPTY:
            self.on_empty()
            return False
        if len(report) < 1 + LENGTH.size:
            return False
        (value,) = LENGTH.unpack_from(report, 1)
        end = 1 + LENGTH.size + (value if report[:1] == FAILED else 1)
        if len(report) < end:
            return False
        if report[:1] == FAILED:
            self.failure = json.loads(bytes(report[1 + LENGTH.size : end]))
            self.status = 0
        elif self.failure is None:
            self.status = value
            self.background = report[end - 1 : end] == b"1"
        del report[:end]
        return True

    def stop_waiting(self):
        """The leader has ended a while ago: take what is in the pipes, wait for nobody else."""
        if self.answered or self.killing:
            return
        for outlet in self.outlets:
            outlet.read_rest()
        if self.window <= 0:
            self.guest.after(DRAIN_GRACE, self.stop_waiting)
            return
        for outlet in self.outlets:
            outlet.discarding = True
        self.answer()
        self.balance()
        self.maybe_finish()

    def on_empty(self):
        """Nothing of the command is left; its supervisor is free for the next."""
        self.leave()
        self.guest.release(self.supervisor)

    def on_supervisor_killed(self):
        """Somebody killed the supervisor, so its tree is ours now."""
        self.leave()
        self.guest.bury(self.supervisor)
        if self.status is None:
            self.failure = {"kind": "Killed", "text": "the command killed its supervisor"}
            self.status = 0
        self.maybe_finish()

    def leave(self):
        self.guest.forget(self.supervisor.socket.fileno())
        self.empty = True
        self.background = False

    def maybe_finish(self):
        """Answer once the leader has ended and its output is complete."""
        if not self.answered and self.status is not None and not self.killing:
            if all(outlet.fd is None for outlet in self.outlets):
                self.answer()
        if self.empty:
            self.end()

    def end(self):
        if self.killing:
            for outlet in self.outlets:
                outlet.read_rest()
                outlet.close()
            self.killing = False
        if not self.answered:
            if any(outlet.fd is not None for outlet in self.outlets):
                return
            self.answer()
        self.close_stdin()
        for outlet in self.outlets:
            outlet.close()
        self.guest.commands.pop(self.channel, None)
        if self.kill_asked:
            self.guest.send(frame(GONE, self.channel))

    def answer(self):
        self.answered = True
        out, out_tail = self.outlets[0].finish()
        err, err_tail = self.outlets[1].finish()
        body = {
            "duration": time.monotonic() - self.started,
            "background": self.background,
            "stdout": out,
            "stderr": err,
        }
        if self.failure is not None:
            body["error"] = self.failure
        elif os.WIFSIGNALED(self.status):
            body["exit_code"] = 128 + os.WTERMSIG(self.status)
        else:
            body["exit_code"] = os.WEXITSTATUS(self.status)
        self.guest.send(frame(REPLY, self.channel, message(body, out_tail + err_tail)))

    def signal(self, number):
        if self.status is None:
            for pid in children_of(self.supervisor.pid)[:1]:
                send_signal(pid, number)

    def kill(self, grace):
        self.kill_asked = True
        if self.killing or self.empty:
            return
        self.killing = True
        for pid in descendants(self.supervisor.pid):
            send_signal(pid, signal.SIGTERM)
            send_signal(pid, signal.SIGCONT)
        self.guest.after(grace, self.kill_round)

    def kill_round(self):
        if self.empty:
            return
        stop_and_kill(lambda: descendants(self.supervisor.pid))
        self.guest.after(KILL_ROUND, self.kill_round)
