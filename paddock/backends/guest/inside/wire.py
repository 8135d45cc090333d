"""The frames of a guest's stream, and head and tail of an output; no I/O.

Used on both ends: inside the sandbox and by the host. ``docs/guest-protocol.md`` is
the protocol in words.
"""

from __future__ import annotations

import json
import struct

PROTOCOL = 1

HEADER = struct.Struct("!IBI")
"""Payload length, kind, channel."""
LENGTH = struct.Struct("!I")
MAX_FRAME = 8 * 1024 * 1024
"""A longer frame is a broken peer. Bulk data travels in pieces of at most `PIECE`."""
PIECE = 64 * 1024
WINDOW = 1024 * 1024
"""Bytes of a stream that may be on the wire unacknowledged."""
INLINE = 1024 * 1024
"""Largest file contents in one request or reply; above it the contents are streamed."""
SPILL_LIMIT = 256 * 1024 * 1024
"""Bytes of one stream kept in its spill file: enough for any log, not for a full disk."""

# host -> guest
REQUEST, DATA, EOF, CREDIT, KILL, SIGNAL = 1, 2, 3, 4, 5, 6
# guest -> host
REPLY, STDOUT, STDERR, STDIN_CREDIT, STDIN_CLOSED, GONE = 17, 18, 19, 20, 21, 22


def frame(kind, channel, payload=b""):
    """One frame as bytes."""
    return HEADER.pack(len(payload), kind, channel) + payload


def message(body, blob=b""):
    """The payload of a request or reply: a JSON object, then raw bytes."""
    text = json.dumps(body, separators=(",", ":")).encode()
    return LENGTH.pack(len(text)) + text + blob


def parse_message(payload):
    """The JSON object and the raw bytes of a request or reply."""
    (size,) = LENGTH.unpack_from(payload)
    end = LENGTH.size + size
    if end > len(payload):
        raise ValueError("a message is shorter than it says")
    body = json.loads(bytes(payload[LENGTH.size : end]))
    if not isinstance(body, dict):
        raise ValueError("a message is not an object")
    return body, bytes(payload[end:])


class Frames:
    """Bytes in, frames out; no I/O. Raises `ValueError` for a frame over `MAX_FRAME`."""

    def __init__(self):
        self._buffer = bytearray()

    def feed(self, data):
        """Take `data`; return the frames that are now whole as (kind, channel, payload)."""
        buffer = self._buffer
        buffer += data
        frames = []
        start = 0
        while len(buffer) - start >= HEADER.size:
            size, kind, channel = HEADER.unpack_from(buffer, start)
            if size > MAX_FRAME:
                raise ValueError("a frame of %d bytes is over the limit" % size)
            end = start + HEADER.size + size
            if end > len(buffer):
                break
            frames.append((kind, channel, bytes(buffer[start + HEADER.size : end])))
            start = end
        if start:
            del buffer[:start]
        return frames


class Capture:
    """Head and tail of a stream, in bounded memory; used on both ends of the wire."""

    def __init__(self, keep):
        self.head_size = (keep + 1) // 2
        self.tail_size = keep // 2
        self.head = bytearray()
        self._tail = bytearray()
        self.total = 0

    def feed(self, data):
        """Take `data`; return how many of its first bytes went to the head."""
        self.total += len(data)
        taken = min(self.head_size - len(self.head), len(data))
        if taken:
            self.head += data[:taken]
        if taken < len(data):
            self._tail += data[taken:]
            if len(self._tail) > 2 * self.tail_size + PIECE:
                self._trim()
        return taken

    def _trim(self):
        excess = len(self._tail) - self.tail_size
        if excess > 0:
            del self._tail[:excess]

    @property
    def dropped(self):
        return self.total - len(self.head) - len(self.tail)

    @property
    def tail(self):
        self._trim()
        return self._tail

    def kept(self):
        return bytes(self.head + self._tail)
