"""The three streams of a command: between its pipes and the windows of hosts."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod

from .files import write_all
from .light import deque
from .pipes import set_pipe_size
from .poller import WRITE
from .wire import BULK, PIECE, Capture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .poller import Poller
    from .spills import Spills

SPILL_LIMIT = 256 * 1024 * 1024
"""Bytes of one stream kept in its spill file: enough for any log, not for a full disk."""
PIPE_MAX = 1024 * 1024
"""Most bytes that a pipe holds (Linux's default for unprivileged users)."""


class Sink(ABC):
    """Whose streams they are: passes on what is in them."""

    poller: Poller
    spills: Spills
    readers: int | None
    """The group that may read what spills, besides the guest's user."""

    @property
    @abstractmethod
    def has_room(self) -> bool:
        """Whether the windows of all hosts are open."""

    @abstractmethod
    def on_output(self, kind: int, data: bytes, to_head: int) -> None:
        """There is output, of which the first `to_head` bytes belong to the head."""

    @abstractmethod
    def on_stdin_closed(self) -> None:
        """The command does not read its stdin any more."""

    @abstractmethod
    def on_stream_ended(self) -> None:
        """An output stream has lost its last writer."""


class Peer(ABC):
    """A host at a command, as the command sees it."""

    @property
    @abstractmethod
    def has_room(self) -> bool:
        """Whether its window is open."""

    @property
    @abstractmethod
    def congested(self) -> bool:
        """Whether much waits on the way to it."""

    @abstractmethod
    def on_output(self, kind: int, data: bytes, to_head: int) -> None:
        """See `Sink.on_output`."""

    @abstractmethod
    def on_written(self, size: int) -> None:
        """The command got so much of what this host sent."""

    @abstractmethod
    def on_stdin_closed(self) -> None:
        """The command does not read its stdin any more."""

    @abstractmethod
    def answer(self) -> None:
        """The leading process has ended, and the output is complete."""

    @abstractmethod
    def end(self) -> None:
        """Nothing of the command is left."""


class Inlet:
    """The stdin of a command: what hosts send, as fast as the command reads it."""

    def __init__(self, sink: Sink, fd: int | None) -> None:
        self.sink = sink
        self.fd = fd
        self.queue: deque[tuple[memoryview, Peer | None]] = deque()
        self.ended = False
        self.watched = False

    def feed(self, data: bytes, sender: Peer | None) -> None:
        """Write `data`, which `sender` counts; None if no host has sent it."""
        if self.fd is not None:
            self.queue.append((memoryview(data), sender))
            self.write()

    def end(self) -> None:
        self.ended = True
        self.write()

    def write(self) -> None:
        if self.fd is None:
            return
        try:
            while self.queue:
                piece, sender = self.queue[0]
                done = os.write(self.fd, piece)
                if done < len(piece):
                    self.queue[0] = piece[done:], sender
                else:
                    self.queue.popleft()
                if sender is not None:
                    sender.on_written(done)
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            self.sink.on_stdin_closed()
            return
        if not self.queue and self.ended:
            self.close()
        else:
            self.watch(bool(self.queue))

    def watch(self, wanted: bool) -> None:
        if wanted == self.watched or self.fd is None:
            return
        self.watched = wanted
        if wanted:
            self.sink.poller.watch(self.fd, self.write, WRITE)
        else:
            self.sink.poller.forget(self.fd)

    def close(self) -> None:
        if self.fd is not None:
            self.watch(False)
            os.close(self.fd)
            self.fd = None
            self.queue.clear()


class Outlet:
    """One output stream of a command: from its pipe to the host, the rest to a file."""

    def __init__(self, sink: Sink, fd: int, kind: int, *, keep: int, spills: bool) -> None:
        self.sink = sink
        self.fd: int | None = fd
        self.kind = kind
        self.keep = keep
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
        self.most = set_pipe_size(fd, BULK) or PIECE

    def pause(self) -> None:
        if self.reading and self.fd is not None:
            self.reading = False
            self.sink.poller.forget(self.fd)

    def resume(self) -> None:
        if not self.reading and self.fd is not None:
            self.reading = True
            self.sink.poller.watch(self.fd, self.on_readable)

    def on_readable(self) -> None:
        if self.read_some() is False:
            self.close()
            self.sink.on_stream_ended()

    def read_some(self) -> bool | None:
        """Read once. True: there may be more; False: the stream ended; None: nothing there now."""
        assert self.fd is not None, "read after its end"
        try:
            data = os.read(self.fd, self.most)
        except BlockingIOError:
            return None
        except OSError:  # a terminal whose last process has closed it
            return False
        if not data:
            return False
        if not self.discarding:
            self.take(data)
        return True

    def read_rest(self) -> None:
        """Read what a pipe can hold at the most, and not what is still being written to it."""
        for _ in range(PIPE_MAX // PIECE):
            if self.fd is None or not self.sink.has_room:
                return
            more = self.read_some()
            if more is False:
                self.close()
            if not more:
                return

    def take(self, data: bytes) -> None:
        if self.spilling and self.capture.total + len(data) > self.keep:
            self.spill_over(data)
        self.sink.on_output(self.kind, data, self.capture.feed(data))

    def spill_over(self, data: bytes) -> None:
        try:
            if self.spill is None:
                self.spill, self.spill_path = self.sink.spills.open(self.kind, self.sink.readers)
                data = bytes(self.capture.head + self.capture.tail) + data  # nothing dropped yet
            room = min(SPILL_LIMIT - self.spilled, self.sink.spills.room)
            self.spilling = len(data) <= room
            data = data[:room]
            write_all(self.spill, data)
            self.spilled += len(data)
            self.sink.spills.room -= len(data)
        except OSError:
            self.spilling = False  # a full disk ends the copy, not the command

    def finish(self) -> dict[str, Any]:
        """Throw away what still comes. Return the report for hosts at the end."""
        self.discarding = True
        told: dict[str, Any] = {"dropped": self.capture.dropped}
        if self.spill is not None:
            os.close(self.spill)
            self.spill = None
            told["spill"] = self.spill_path
            told["spill_truncated"] = not self.spilling
        return told

    def close(self) -> None:
        self.pause()
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
