"""The frames of a guest's stream, and head and tail of an output; no I/O.

Used on both ends: inside the sandbox and by the host. ``docs/guest-protocol.md`` is
the protocol in words.
"""

from __future__ import annotations

import struct

from .light import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .seal import Seal

PROTOCOL = 2
JOIN_ADDRESS = "\0paddock-guest"
"""Where a guest takes other hosts: a socket without a file."""

HEADER = struct.Struct("!IBI")
"""Payload length, kind, channel."""
LENGTH = struct.Struct("!I")
PAIR = struct.Struct("!II")
FOREGROUND, GROUP, TREE = 0, 1, 2
"""Whom a `SIGNAL` reaches: the foreground group of the command's terminal (without one the
leading process), the leading process's group, or all processes."""
MAX_FRAME = 8 * 1024 * 1024
"""A longer payload is a broken peer. Bulk data travels in pieces of at most `PIECE`."""
FIRST_SEALED = 1024
"""Longest payload of the first frame on a sealed stream."""
PIECE = 64 * 1024
BULK = 4 * PIECE
"""Of a file or a tree on its way to the host, which is worth a larger pipe."""
WINDOW = 1024 * 1024
"""Bytes of a stream that may be on the wire unacknowledged."""
CREDIT_STEP = WINDOW // 4
"""Who reads gives credit for so many at once: the sender needs some room, not all of it."""
INLINE = 1024 * 1024
"""Largest file contents in one request or reply; above it the contents are streamed."""
TUNNEL_WINDOW = 256 * 1024
"""Bytes of one way of a connection that may be on the wire unacknowledged. Smaller than
`WINDOW`, as there are many connections and each end may have to hold so much of each."""
TUNNELS_MAX = 128
"""Connections at once that were opened by one side."""
GUEST_CHANNELS = 0x80000000
"""The bit of a channel that the guest opened; those of the host are without."""

HEARTBEAT = 0
"""The channel of heartbeats; nothing else gets this number."""

# host -> guest
REQUEST, DATA, EOF, CREDIT, KILL, SIGNAL, RESIZE, LEAVE = 1, 2, 3, 4, 5, 6, 7, 8
# guest -> host
REPLY, STDOUT, STDERR, STDIN_CREDIT, STDIN_CLOSED, GONE = 17, 18, 19, 20, 21, 22
REPLAY, LEFT = 23, 24
# both ways: TCP connections
OPEN, OPENED, BYTES, END, GRANT, RESET = 33, 34, 35, 36, 37, 38
TUNNEL_KINDS = frozenset((OPEN, OPENED, BYTES, END, GRANT, RESET))


def frame(kind: int, channel: int, payload: bytes | memoryview = b"") -> bytes:
    """One frame as bytes."""
    return HEADER.pack(len(payload), kind, channel) + payload


def message(body: dict[str, Any], blob: bytes = b"") -> bytes:
    """The payload of a request or reply: a JSON object, then raw bytes."""
    text = dumps(body).encode()
    return LENGTH.pack(len(text)) + text + blob


def parse_message(payload: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON object and the raw bytes of a request or reply."""
    if len(payload) < LENGTH.size:
        raise ValueError("a message is shorter than its header")
    (size,) = LENGTH.unpack_from(payload)
    end = LENGTH.size + size
    if end > len(payload):
        raise ValueError("a message is shorter than it says")
    try:
        body = loads(payload[LENGTH.size : end])
    except RecursionError:
        raise ValueError("a message is nested too deeply") from None
    if not isinstance(body, dict):
        raise ValueError("a message is not an object")
    return body, payload[end:]


class Frames:
    """Bytes in, frames out; no I/O. With a `seal`, each frame is followed by its tag."""

    def __init__(self, seal: Seal | None = None) -> None:
        self._buffer = bytearray()
        self._seal = seal
        self._limit = MAX_FRAME if seal is None else FIRST_SEALED

    def feed(self, data: bytes | memoryview) -> list[tuple[int, int, bytes]]:
        """Take `data`; return the frames that are now whole as (kind, channel, payload).

        Raises `ValueError` as soon as a header announces more than `MAX_FRAME`, or a tag is
        wrong. The first sealed frame is short, as nothing is known of its sender before.
        """
        buffer = self._buffer
        buffer += data
        frames = []
        start = 0
        trailer = 0 if self._seal is None else self._seal.size
        with memoryview(buffer) as view:
            while len(view) - start >= HEADER.size:
                size, kind, channel = HEADER.unpack_from(view, start)
                if size > self._limit:
                    raise ValueError(f"a frame of {size} bytes is over the limit")
                end = start + HEADER.size + size
                if end + trailer > len(view):
                    break
                if self._seal is not None:
                    self._seal.check(view[end : end + trailer], view[start:end])
                    self._limit = MAX_FRAME
                frames.append((kind, channel, bytes(view[start + HEADER.size : end])))
                start = end + trailer
        if start:
            del buffer[:start]
        return frames


class Capture:
    """Head and tail of a stream, in bounded memory; used on both ends of the wire.

    Of `keep` bytes one half is for the beginning and one for the end.
    """

    def __init__(self, keep: int) -> None:
        self.head_size = (keep + 1) // 2
        self.tail_size = keep // 2
        self.head = bytearray()
        self._tail = bytearray()
        self.total = 0

    def feed(self, data: bytes) -> int:
        """Take `data`; return how many of its first bytes went to the head."""
        self.total += len(data)
        taken = min(self.head_size - len(self.head), len(data))
        if taken:
            self.head += data[:taken]
        if taken < len(data) and self.tail_size:
            self._tail += data[taken:]
            # Room for a whole tail more, so that a byte is moved once at the most.
            if len(self._tail) > 2 * self.tail_size + PIECE:
                self._trim()
        return taken

    def skip(self, size: int) -> None:
        """Count bytes that are not there to be kept; what follows is of the tail."""
        if size:
            self.total += size
            self.head_size = len(self.head)

    def excerpt(self, keep: int) -> tuple[bytes, bytes]:
        """At most `keep` bytes of what is kept: the first, and the last."""
        head, tail = bytes(self.head), bytes(self.tail)
        if not self.dropped:
            head = tail = head + tail
            if len(head) <= keep:
                return head, b""
        return head[: (keep + 1) // 2], tail[max(len(tail) - keep // 2, 0) :]

    def forget(self) -> None:
        """Keep nothing any more."""
        self.head.clear()
        self._tail.clear()

    def _trim(self) -> None:
        excess = len(self._tail) - self.tail_size
        if excess > 0:
            del self._tail[:excess]

    @property
    def dropped(self) -> int:
        """Bytes that were neither in the head nor are in the tail."""
        return self.total - len(self.head) - len(self.tail)

    @property
    def tail(self) -> bytearray:
        self._trim()
        return self._tail
