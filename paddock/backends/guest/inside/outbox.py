"""What waits for one host to read it, in the order in which it was sent."""

from __future__ import annotations

import os

from .pipes import set_pipe_size
from .poller import WRITE
from .wire import HEADER, PIECE, WINDOW, frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .poller import Callback, Poller
    from .seal import Seal

HIGH = 1024 * 1024
"""When this much waits, commands' output is no longer read,"""
LOW = 256 * 1024
"""until no more than this waits."""
FULL = 16 * 1024 * 1024
"""When this much waits (answers, then), no requests are taken either."""
NARROW_ROUND = 1.0
"""Seconds between two looks whether a pipe has little enough in it to be made smaller."""


class Outbox:
    """The writing side of a host's connection.

    Calls `on_congestion` when `congested` changes, and `on_broken` when the reader has gone.
    """

    def __init__(
        self,
        poller: Poller,
        fd: int,
        *,
        seal: Seal | None,
        on_congestion: Callback,
        on_broken: Callback,
    ) -> None:
        self.poller = poller
        self.fd = fd
        self.seal = seal
        self.on_congestion = on_congestion
        self.on_broken = on_broken
        self.data = bytearray()
        self.congested = False
        self.closed = False
        self.watched = False
        self.wide = False

    @property
    def full(self) -> bool:
        return len(self.data) >= FULL

    def send(self, data: bytes) -> None:
        """Send one frame, at the latest before the guest waits again."""
        if self.closed:
            return
        self.data += data
        if self.seal is not None:
            self.data += self.seal.tag(data)
        if len(self.data) >= PIECE:
            self.flush()

    def send_bulk(self, kind: int, channel: int, payload: bytes) -> None:
        """Send a frame whose payload is not worth a copy, if it can go at once."""
        if self.data or self.closed or self.seal is not None:
            self.send(frame(kind, channel, payload))
            return
        head = HEADER.pack(len(payload), kind, channel)
        try:
            written = os.writev(self.fd, [head, payload])
        except BlockingIOError:
            written = 0
        except OSError:
            self.on_broken()
            return
        self.data += head[written:]
        with memoryview(payload) as rest:
            self.data += rest[max(written - len(head), 0) :]

    def flush(self) -> None:
        if self.closed:
            return
        try:
            while self.data:
                written = os.write(self.fd, self.data)
                del self.data[:written]
        except BlockingIOError:
            pass
        except OSError:
            self.on_broken()
            return
        self.watch(bool(self.data))
        if self.congested != (len(self.data) > (LOW if self.congested else HIGH)):
            self.congested = not self.congested
            self.on_congestion()

    def watch(self, wanted: bool) -> None:
        if wanted == self.watched:
            return
        self.watched = wanted
        if wanted:
            self.poller.watch(self.fd, self.flush, WRITE)
        else:
            self.poller.forget(self.fd)

    def widen(self) -> None:
        """Make room in the pipe for the output of a job."""
        if not self.wide:
            self.wide = bool(set_pipe_size(self.fd, WINDOW))

    def narrow(self) -> None:
        """Give back what was widened: all sandboxes of a user share it."""
        if self.closed or not self.wide:
            return
        self.wide = not set_pipe_size(self.fd, PIECE)
        if self.wide:  # the host has not read it all
            self.poller.after(NARROW_ROUND, self.narrow)

    def close(self) -> None:
        self.watch(False)
        self.closed = True
        self.congested = False
        self.data.clear()
        os.close(self.fd)
