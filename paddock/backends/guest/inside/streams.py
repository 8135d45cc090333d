"""The three streams of a command: between its pipes and the host's windows."""

from __future__ import annotations

import errno
import os
import selectors
from collections import deque

from .files import write_all
from .wire import (
    BULK,
    CREDIT_STEP,
    INLINE,
    LENGTH,
    PIECE,
    STDIN_CLOSED,
    STDIN_CREDIT,
    Capture,
    frame,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from .commands import Command

SPILL_LIMIT = 256 * 1024 * 1024
"""Bytes of one stream kept in its spill file: enough for any log, not for a full disk."""
F_SETPIPE_SZ = 1031
"""As Linux has it; the module has the name only since Python 3.10."""
PIPE_MAX = 1024 * 1024
"""Most bytes that a pipe holds (Linux's default for unprivileged users)."""


class Inlet:
    """The stdin of a command: what the host sends, as fast as the command reads it."""

    def __init__(self, command: Command, fd: int | None) -> None:
        self.command = command
        self.fd = fd
        self.queue: deque[memoryview] = deque()
        self.owed = 0
        self.ended = False
        self.watched = False

    def feed(self, data: bytes) -> None:
        if self.fd is not None:
            self.queue.append(memoryview(data))
            self.write()

    def end(self) -> None:
        self.ended = True
        self.write()

    def write(self) -> None:
        if self.fd is None:
            return
        try:
            while self.queue:
                piece = self.queue[0]
                done = os.write(self.fd, piece)
                self.owed += done
                if done < len(piece):
                    self.queue[0] = piece[done:]
                else:
                    self.queue.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            self.tell(STDIN_CLOSED)
            return
        if self.owed >= CREDIT_STEP:
            self.tell(STDIN_CREDIT, LENGTH.pack(self.owed))
            self.owed = 0
        if not self.queue and self.ended:
            self.close()
        else:
            self.watch(bool(self.queue))

    def tell(self, kind: int, payload: bytes = b"") -> None:
        self.command.host.send(frame(kind, self.command.channel, payload))

    def watch(self, wanted: bool) -> None:
        if wanted == self.watched or self.fd is None:
            return
        self.watched = wanted
        if wanted:
            self.command.guest.watch(self.fd, self.write, selectors.EVENT_WRITE)
        else:
            self.command.guest.forget(self.fd)

    def close(self) -> None:
        if self.fd is not None:
            self.watch(False)
            os.close(self.fd)
            self.fd = None
            self.queue.clear()


class Outlet:
    """One output stream of a command: from its pipe to the host, the rest to a file."""

    def __init__(
        self, command: Command, fd: int, kind: int, *, keep: int, streamed: bool, spills: bool
    ) -> None:
        self.command = command
        self.fd: int | None = fd
        self.kind = kind
        self.keep = keep
        self.streamed = streamed
        self.most = PIECE
        self.capture = Capture(keep)
        self.spilling = spills
        self.spill: int | None = None
        self.spill_path: str | None = None
        self.spilled = 0
        self.discarding = False
        self.reading = False
        os.set_blocking(fd, False)

    def widen(self, fd: int) -> None:
        """Take and send in larger pieces, where the system gives a pipe that holds them."""
        self.most = hold(fd, BULK) or PIECE

    def pause(self) -> None:
        if self.reading and self.fd is not None:
            self.reading = False
            self.command.guest.forget(self.fd)

    def resume(self) -> None:
        if not self.reading and self.fd is not None:
            self.reading = True
            self.command.guest.watch(self.fd, self.on_readable)

    def on_readable(self) -> None:
        if self.read_some() is False:
            self.close()
            self.command.maybe_finish()

    def read_some(self) -> bool | None:
        """Read once. True: there may be more; False: the stream ended; None: nothing there now."""
        assert self.fd is not None, "read after its end"
        try:
            data = os.read(self.fd, self.most)
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
            self.command.host.send_bulk(self.kind, self.command.channel, data)
            self.command.spend(len(data))
        elif to_head:
            self.command.host.send(frame(self.kind, self.command.channel, data[:to_head]))

    def spill_over(self, data: bytes) -> None:
        try:
            if self.spill is None:
                self.spill, self.spill_path = self.command.guest.open_spill(self.kind)
                data = bytes(self.capture.head + self.capture.tail) + data  # nothing dropped yet
            room = min(SPILL_LIMIT - self.spilled, self.command.guest.spill_room)
            self.spilling = len(data) <= room
            data = data[:room]
            write_all(self.spill, data)
            self.spilled += len(data)
            self.command.guest.spill_room -= len(data)
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
            self.command.host.send(frame(self.kind, self.command.channel, data[at : at + INLINE]))

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


def hold(fd: int, size: int) -> int:
    """Let a pipe hold `size` bytes; how many it holds now, or 0 if it stays as it is.

    It does where its user has too many already, or there is more in it, or it is none.
    """
    import fcntl  # which most guests never need

    try:
        return fcntl.fcntl(fd, F_SETPIPE_SZ, size)
    except OSError:
        return 0


def close_streams(fds: Iterable[int | None]) -> None:
    for fd in fds:
        if fd is not None:
            os.close(fd)
