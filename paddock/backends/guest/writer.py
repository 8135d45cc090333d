"""Writes to one socket from several threads, whole messages only.

asyncio's transport belongs to the loop's thread, and a heartbeat has to go out while that
thread is held up by a user's blocking code. So what is sent goes to the socket directly,
under a lock, and what the socket does not take at once waits here. Messages follow one
another in the order of the calls; the next write, from any thread, first finishes
the one that was cut short.
"""

from __future__ import annotations

import os
import ssl
import threading
from typing import TYPE_CHECKING

from paddock.backends.guest.inside.wire import HEADER

if TYPE_CHECKING:
    import asyncio

    from paddock.backends.guest.inside.seal import Seal

__all__ = ["SharedWriter"]

MOST_AT_ONCE = 1024 * 1024
"""Bytes given to one system call: more than any socket takes, less than is worth copying."""


class SharedWriter:
    """The writing side of a stream whose reading side is a transport of `loop`.

    A transport without a plain socket is written to by the loop's thread alone, so what
    another thread sends waits for the loop. `close` does not close the transport.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        seal: Seal | None = None,
    ) -> None:
        """With a `seal`, what is written are whole frames, and each is followed by its tag."""
        self._transport = transport
        self._loop = loop
        self._seal = seal
        self._lock = threading.Lock()
        self._waiting = bytearray()
        self._watched = False
        self._fd = _own_descriptor(transport)
        self._is_plain = self._fd is not None

    def write(self, data: bytes) -> None:
        """Send `data` after all that was given before. To be called in the loop's thread."""
        if not self._is_plain:
            self._transport.write(self._sealed(data))
        elif self._push(data):
            self._watch()

    def write_from_thread(self, data: bytes) -> None:
        """The same, from another thread. Never blocks: the next write sends the rest."""
        if not self._is_plain:
            self._loop.call_soon_threadsafe(self.write, data)
        elif self._push(data):
            self._loop.call_soon_threadsafe(self._watch)

    def close(self) -> None:
        """Forget what waits and the socket; later writes do nothing."""
        with self._lock:
            fd, self._fd = self._fd, None
            self._waiting.clear()
            if fd is None:
                return
            if self._watched:
                self._watched = False
                self._loop.remove_writer(fd)
            os.close(fd)

    def _push(self, data: bytes) -> bool:
        """Add `data` and write what can be written; return whether something still waits."""
        with self._lock:
            if self._fd is None:
                return False
            data = self._sealed(data)
            if not self._waiting:
                taken = self._take(data)
                if taken == len(data):
                    return False
                data = data[taken:]
            self._waiting += data
            while self._waiting:
                taken = self._take(self._waiting)
                if not taken:
                    break
                del self._waiting[:taken]
            return bool(self._waiting)

    def _sealed(self, data: bytes) -> bytes:
        """Each of the frames in `data` followed by its tag, where there is a seal."""
        if self._seal is None:
            return data
        pieces: list[bytes | memoryview] = []
        view = memoryview(data)
        while view:
            size: int = HEADER.unpack_from(view)[0]
            end = HEADER.size + size
            pieces += (view[:end], self._seal.tag(view[:end]))
            view = view[end:]
        return b"".join(pieces)

    def _take(self, data: bytes | bytearray) -> int:
        """Bytes that the socket took; all of them if it is broken, which its reader notices."""
        assert self._fd is not None, "written after its close"
        try:
            if len(data) <= MOST_AT_ONCE:
                return os.write(self._fd, data)
            with memoryview(data) as view:
                return os.write(self._fd, view[:MOST_AT_ONCE])
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)

    def _watch(self) -> None:
        """Have the loop write the rest as soon as the socket takes more."""
        if self._fd is not None and not self._watched:
            self._watched = True
            self._loop.add_writer(self._fd, self._on_writable)

    def _on_writable(self) -> None:
        if not self._push(b"") and self._fd is not None:
            self._watched = False
            self._loop.remove_writer(self._fd)


def _own_descriptor(transport: asyncio.Transport) -> int | None:
    """A descriptor of our own for the transport's socket: asyncio lets no one else watch its
    number. None where bytes have to pass through the transport."""
    connected = transport.get_extra_info("socket")
    if connected is None or isinstance(transport.get_extra_info("ssl_object"), ssl.SSLObject):
        return None
    return os.dup(connected.fileno())
