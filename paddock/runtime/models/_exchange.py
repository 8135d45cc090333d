"""One answer of HTTP/1.1: bytes of a connection in, head and body out. Does no I/O.

Heads are read by h11, and bodies here: an event for each chunk of a stream would cost more than
all else that is done with the chunk.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

import h11

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BadAnswer", "Exchange", "encode_head"]

MAX_HEAD = 100 * 1024
"""Bytes of an answer's headers."""

MAX_LINE = 4 * 1024
"""Bytes of the line before a chunk, or of one after the last chunk."""

MAX_TRAILERS = 100
"""Lines after the last chunk."""

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_WITHOUT_BODY = frozenset({204, 304})
_REQUEST = h11.Request(method="POST", target="/", headers=[("Host", "a"), ("Content-Length", "0")])
"""Stands for each request, for h11 to read the answer to."""


class BadAnswer(ValueError):
    """What came is not an answer, or ended before the answer did."""


def encode_head(method: str, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the head of a request. Raises `h11.LocalProtocolError` for one that is not valid."""
    request = h11.Request(method=method, target=target, headers=list(headers))
    return h11.Connection(h11.CLIENT).send(request)


class Exchange:
    """The answer to one request. `head` is None until it has come."""

    def __init__(self) -> None:
        self.head: h11.Response | None = None
        self.is_complete = False
        self.keeps_alive = False
        """Whether the connection may be used again: known when the answer is complete."""
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._http.send(_REQUEST)
        self._http.send(h11.EndOfMessage())
        self._body: _Body = _Sized(0)
        self._ready: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Take bytes of the connection. Raises `BadAnswer`."""
        if self.head is None:
            self._http.receive_data(data)
            self.head = self._read_head()
            if self.head is None:
                return
            self._body = _body_of(self.head)
            data = self._http.trailing_data[0]
        rest = self._body.feed(data, self._ready)
        if self._body.is_complete:
            self.is_complete = True
            self.keeps_alive = not rest and _keeps_alive(self.head)

    def end(self) -> None:
        """The connection has ended. Raises `BadAnswer` if the answer has not."""
        if self.head is None:
            raise BadAnswer("the service closed the connection without an answer")
        if not self.is_complete and not isinstance(self._body, _UntilEnd):
            raise BadAnswer("the service closed the connection in the middle of its answer")
        self.is_complete, self.keeps_alive = True, False

    def take(self) -> bytes:
        """Return what has come of the body since the last time."""
        ready, self._ready = self._ready, []
        return b"".join(ready)

    def _read_head(self) -> h11.Response | None:
        try:
            while isinstance(event := self._http.next_event(), h11.InformationalResponse):
                continue
        except h11.RemoteProtocolError as error:
            raise BadAnswer(str(error)) from error
        return event if isinstance(event, h11.Response) else None


class _Body(Protocol):
    """How the end of a body is found."""

    is_complete: bool

    def feed(self, data: bytes, ready: list[bytes]) -> bytes:
        """Add what of `data` is the body's to `ready`; return what comes after the body."""
        ...


class _UntilEnd:
    """Ends with the connection."""

    is_complete = False

    def feed(self, data: bytes, ready: list[bytes]) -> bytes:
        ready.append(data)
        return b""


class _Sized:
    """Has so many bytes."""

    def __init__(self, size: int) -> None:
        self._left = size
        self.is_complete = not size

    def feed(self, data: bytes, ready: list[bytes]) -> bytes:
        piece = data[: self._left]
        ready.append(piece)
        self._left -= len(piece)
        self.is_complete = not self._left
        return data[len(piece) :]


class _Chunked:
    """Comes in chunks, each after a line with its size."""

    def __init__(self) -> None:
        self.is_complete = False
        self._held = b""  # what came of a line that is not whole
        self._left = 0  # bytes of the chunk and of the end of its line
        self._trailers: int | None = None

    def feed(self, data: bytes, ready: list[bytes]) -> bytes:
        data, at = self._held + data, 0
        while not self.is_complete:
            if self._left:
                if self._left > 2:
                    piece = data[at : at + self._left - 2]
                    ready.append(piece)
                    at += len(piece)
                    self._left -= len(piece)
                if self._left > 2 or len(data) - at < 2:
                    break
                if data[at : at + 2] != b"\r\n":
                    raise BadAnswer(f"a chunk that does not end: {data[at : at + 20]!r}")
                at += 2
                self._left = 0
            end = data.find(b"\r\n", at)
            if end < 0:
                break
            self._take_line(data[at:end])
            at = end + 2
        self._held = data[at:]
        if len(self._held) > MAX_LINE:
            raise BadAnswer(f"a line of more than {MAX_LINE} bytes before a chunk")
        return self._held

    def _take_line(self, line: bytes) -> None:
        if self._trailers is not None:
            self._trailers += 1
            if self._trailers > MAX_TRAILERS:
                raise BadAnswer(f"more than {MAX_TRAILERS} lines after the last chunk")
            self.is_complete = not line
            return
        size = _SIZE.fullmatch(line)
        if size is None:
            raise BadAnswer(f"a chunk of an unknown size: {line[:20]!r}")
        self._left = int(size[1], 16) + 2
        if self._left == 2:
            self._left, self._trailers = 0, 0


def _body_of(head: h11.Response) -> _Body:
    if head.status_code in _WITHOUT_BODY:
        return _Sized(0)
    lengths = {value for name, value in head.headers if name == b"content-length"}
    if any(name == b"transfer-encoding" for name, _ in head.headers):  # h11 takes no other
        return _Chunked()
    return _Sized(int(lengths.pop())) if lengths else _UntilEnd()


def _keeps_alive(head: h11.Response) -> bool:
    closes = any(
        name == b"connection" and b"close" in value.lower() for name, value in head.headers
    )
    return head.http_version >= b"1.1" and not closes
