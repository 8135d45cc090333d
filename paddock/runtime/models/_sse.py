"""Server-sent events: bytes in, the data of whole events out. Does no I/O.

Only ``data`` fields are of use here; comments, names, ids and retry times are passed over.
Knows nothing of what the data means.
"""

from __future__ import annotations

__all__ = ["EventTooLong", "SSEParser"]

_NEWLINE, _RETURN = ord("\n"), ord("\r")


class EventTooLong(ValueError):
    """A line, or the data of one event, is longer than the parser's limit."""


class SSEParser:
    """Feed it the stream as it comes, cut anywhere. Holds at most `max_bytes` of one event.

    An event that the stream ends in the middle of is given out by `end` only.
    """

    def __init__(self, *, max_bytes: int = 16 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._line = bytearray()  # what came of the line that has not ended
        self._data: list[bytes] = []  # the lines of the event that has not ended
        self._size = 0
        self._after_return = False  # a newline that comes next belongs to that return
        self._at_start = True

    def feed(self, data: bytes) -> list[bytes]:
        """The data of each event that ends in `data`. Raises `EventTooLong`."""
        if self._after_return and data:
            data = data.removeprefix(b"\n")
            self._after_return = False
        end = max(data.rfind(_NEWLINE), data.rfind(_RETURN)) + 1
        if not end:
            self._hold(data)
            return []
        self._after_return = end == len(data) and data[-1] == _RETURN
        lines = (bytes(self._line) + data[:end]).splitlines()
        self._line.clear()
        events: list[bytes] = []
        for line in lines:
            self._take(line, events)
        self._hold(data[end:])
        return events

    def end(self) -> list[bytes]:
        """The data of an event that the stream ended without the empty line after it."""
        events: list[bytes] = []
        self._take(bytes(self._line), events)
        self._take(b"", events)
        self._line.clear()
        return events

    def _hold(self, data: bytes) -> None:
        self._line += data
        self._check(len(self._line))

    def _take(self, line: bytes, events: list[bytes]) -> None:
        if self._at_start:
            line = line.removeprefix(b"\xef\xbb\xbf")  # a byte order mark
            self._at_start = False
        if line.startswith(b"data:"):
            value = line[6:] if line[5:6] == b" " else line[5:]
        elif line == b"data":
            value = b""
        else:
            if not line and self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
                self._size = 0
            return
        self._check(len(value))
        self._size += len(value)
        self._data.append(value)

    def _check(self, more: int) -> None:
        if self._size + more > self._max_bytes:
            raise EventTooLong(f"an event of the stream has more than {self._max_bytes} bytes")
