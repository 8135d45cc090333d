"""HTTP/1 as far as a proxy has to understand it: heads, and where bodies end. No I/O.

Strict with requests: what two readers could take for two different things is refused
(RFC 9112 names most of it), for the one that is asked would not be the one that was
checked. It does not know what is allowed.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from paddock.network import parse_host, parse_port, split_port

if TYPE_CHECKING:
    from paddock.network import Address

__all__ = [
    "Body",
    "Head",
    "Refused",
    "Request",
    "answer",
    "is_interim",
    "parse_request",
    "to_close",
]

HEAD_LIMIT = 32 * 1024
"""Bytes of a head: as much as common servers take."""
FIELDS_LIMIT = 100
REQUEST_LINE = re.compile(rb"([A-Za-z!#$%&'*+.^_`|~0-9-]{1,32}) ([!-~]+) HTTP/1\.([01])")
FIELD = re.compile(rb"([A-Za-z!#$%&'*+.^_`|~0-9-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
ABSOLUTE = re.compile(r"(?i:http)://([^/?#]*)(/[^#]*|\?[^#]*|)")
LENGTH = re.compile(r"[0-9]{1,18}")
CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})\r\n")
CHUNK_LINE_LIMIT = 17
STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: |$|\r)")
BARE_LF = re.compile(rb"(?<!\r)\n")
SHOWN_MAX = 300
"""Characters of a target in a log."""

PER_CONNECTION = frozenset(
    (
        *("connection", "proxy-connection", "keep-alive", "proxy-authenticate"),
        *("proxy-authorization", "te", "trailer", "upgrade", "http2-settings"),
        *("transfer-encoding", "content-length", "host"),
    )
)
"""Fields that are about one connection only, and those that are written anew."""
REWRITTEN = frozenset((b"connection", b"proxy-connection", b"keep-alive", b"upgrade"))
"""The same of an answer, whose body is passed on as it is."""


class Refused(Exception):
    """A request that is not passed on: the status it is answered with, and why.

    `host` and `port` are what was asked for, as far as that was understood.
    """

    def __init__(self, status: int, reason: str, *, host: str = "", port: int = 0) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.host = host
        self.port = port


class Head:
    """Bytes in, a head out as soon as it is whole."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """The head without its empty line, and what came after it. Raises `Refused`."""
        start = max(0, len(self._buffer) - 3)
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n", start)
        if BARE_LF.search(self._buffer, start, end if end >= 0 else len(self._buffer)):
            raise Refused(400, "its lines do not end in CR LF")
        if end > HEAD_LIMIT or (end < 0 and len(self._buffer) > HEAD_LIMIT):
            raise Refused(431, f"its head is longer than {HEAD_LIMIT} bytes")
        if end < 0:
            return None
        return bytes(self._buffer[:end]), bytes(self._buffer[end + 4 :])


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asks a proxy for.

    `host` is in its one spelling. `target` is the path to ask for there, and None if a
    connection is wanted (CONNECT). `length` is that of its body in bytes, None if it comes
    in chunks.
    """

    method: str
    host: str | Address
    port: int
    target: str | None
    fields: tuple[tuple[str, str], ...] = ()
    length: int | None = 0

    @property
    def authority(self) -> str:
        """The host as a Host field has it."""
        host = f"[{self.host}]" if ":" in str(self.host) else str(self.host)
        return host if self.port == 80 else f"{host}:{self.port}"

    def head(self) -> bytes:
        """The request as the server itself is asked: once, on a connection of its own."""
        dropped = PER_CONNECTION | _named_by_connection(self.fields)
        lines = [f"{self.method} {self.target} HTTP/1.1", f"Host: {self.authority}"]
        lines += [f"{name}: {value}" for name, value in self.fields if name.lower() not in dropped]
        if self.length is None:
            lines.append("Transfer-Encoding: chunked")
        elif self.length or any(name.lower() == "content-length" for name, _ in self.fields):
            lines.append(f"Content-Length: {self.length}")
        return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")


def parse_request(head: bytes) -> Request:
    """A request as a proxy gets it; raises `Refused` for everything that is not quite one."""
    line, *rest = head.split(b"\r\n")
    match = REQUEST_LINE.fullmatch(line)
    if match is None:
        raise Refused(400, "its first line is not one of HTTP/1", host=shown(line))
    method, target, version = (part.decode("ascii") for part in match.groups())
    fields = _parse_fields(rest, target)
    try:
        if method == "CONNECT":
            host, port, path = *_parse_authority(target, default=None), None
        else:
            host, port, path = _parse_absolute(target)
        _check_host(fields, host, port, path, version)
        length = _body_length(fields, version)
    except ValueError as error:
        raise Refused(400, str(error), host=shown(target)) from None
    if path is None and length != 0:
        raise Refused(400, "a CONNECT has no body", host=str(host), port=port)
    return Request(method=method, host=host, port=port, target=path, fields=fields, length=length)


def _parse_fields(lines: list[bytes], target: str) -> tuple[tuple[str, str], ...]:
    if len(lines) > FIELDS_LIMIT:
        raise Refused(431, f"it has more than {FIELDS_LIMIT} fields", host=shown(target))
    fields = []
    for line in lines:
        match = FIELD.fullmatch(line)  # also refuses folded lines and bare CR and LF
        if match is None:
            raise Refused(400, "a field of its head is malformed", host=shown(target))
        name, value = match.groups()
        fields.append((name.decode("ascii"), value.decode("latin-1").rstrip(" \t")))
    return tuple(fields)


def _parse_absolute(target: str) -> tuple[str | Address, int, str]:
    match = ABSOLUTE.fullmatch(target)
    if match is None:
        raise ValueError("a proxy is asked for http://host/path, or to CONNECT to host:port")
    host, port = _parse_authority(match[1], default=80)
    path = match[2]
    return host, port, path if path.startswith("/") else f"/{path}"


def _parse_authority(text: str, *, default: int | None) -> tuple[str | Address, int]:
    host, port = split_port(text)
    if port is not None:
        return parse_host(host), parse_port(port)
    if default is None:
        raise ValueError("a CONNECT has to name a port")
    return parse_host(host), default


def _check_host(
    fields: tuple[tuple[str, str], ...],
    host: str | Address,
    port: int,
    path: str | None,
    version: str,
) -> None:
    """The Host field says what the target says, or is not there where it need not be."""
    told = _values(fields, "host")
    if len(told) > 1 or (not told and version == "1" and path is not None):
        raise ValueError("it has to have one Host field")
    for value in told:
        # Of a CONNECT, some clients name the host alone.
        if _parse_authority(value, default=80 if path is not None else port) != (host, port):
            raise ValueError("its Host field and its target are not the same")


def _body_length(fields: tuple[tuple[str, str], ...], version: str) -> int | None:
    lengths, encodings = _values(fields, "content-length"), _values(fields, "transfer-encoding")
    if encodings:
        if lengths or version == "0" or [value.lower() for value in encodings] != ["chunked"]:
            raise ValueError("where its body ends is not clear")
        return None
    if not lengths:
        return 0
    if len(lengths) > 1 or not LENGTH.fullmatch(lengths[0]):
        raise ValueError("where its body ends is not clear")
    return int(lengths[0])


def _values(fields: tuple[tuple[str, str], ...], wanted: str) -> list[str]:
    return [value for name, value in fields if name.lower() == wanted]


def _named_by_connection(fields: tuple[tuple[str, str], ...]) -> set[str]:
    return {
        option.strip().lower()
        for value in _values(fields, "connection")
        for option in value.split(",")
    }


class Body:
    """Where a request's body ends: of the bytes that come, those that belong to it.

    `length` is None for a body in chunks; they are taken without extensions and trailers.
    """

    def __init__(self, length: int | None) -> None:
        self._chunked = length is None
        self._left = length or 0
        self._line = bytearray()
        self._expected = Expected.SIZE
        self.whole = length == 0

    def feed(self, data: bytes) -> bytes:
        """The beginning of `data` that belongs to the body. Raises `Refused`."""
        at = 0
        while at < len(data) and not self.whole:
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                self.whole = not (self._left or self._chunked)
            else:
                step = 1
                self._line.append(data[at])
                self._on_line()
            at += step
        return data[:at]

    def _on_line(self) -> None:
        """Act on a line between chunks, if it is whole."""
        line = bytes(self._line)
        if not line.endswith(b"\n"):
            if len(line) > CHUNK_LINE_LIMIT:
                raise Refused(400, "a chunk of its body is malformed")
            return
        self._line.clear()
        size = CHUNK_SIZE.fullmatch(line)
        if self._expected is Expected.SIZE and size is not None:
            self._left = int(size[1], 16)
            self._expected = Expected.CHUNK_END if self._left else Expected.BODY_END
        elif self._expected is Expected.SIZE or line != b"\r\n":
            raise Refused(400, "a chunk of its body is malformed")
        else:
            self.whole = self._expected is Expected.BODY_END
            self._expected = Expected.SIZE


class Expected(enum.Enum):
    """The line that comes next between chunks."""

    SIZE = enum.auto()
    CHUNK_END = enum.auto()
    BODY_END = enum.auto()


# ------------------------------------------------------------------------- answers


def is_interim(head: bytes) -> bool:
    """Whether another head follows this one. Raises `Refused` if it is no answer's."""
    match = STATUS_LINE.match(head)
    if match is None:
        raise Refused(502, "what came back is not HTTP/1")
    return match[1].startswith(b"1")


def to_close(head: bytes) -> bytes:
    """An answer's head, as it goes to a client whose connection ends with the answer."""
    line, *fields = head.split(b"\r\n")
    kept = [field for field in fields if field.partition(b":")[0].strip().lower() not in REWRITTEN]
    return b"\r\n".join([line, *kept, b"Connection: close", b"", b""])


def answer(status: int, reason: str) -> bytes:
    """A whole answer of the proxy's own, after which it hangs up."""
    text = f"paddock: {reason}\n".encode()
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(text)}\r\n"
        "Connection: close\r\n\r\n"
    ).encode() + text


def shown(text: str | bytes) -> str:
    """What somebody sent, fit to be logged: printable, and not long."""
    raw = text.encode() if isinstance(text, str) else text
    return raw[:SHOWN_MAX].decode("ascii", "backslashreplace").encode("unicode_escape").decode()
