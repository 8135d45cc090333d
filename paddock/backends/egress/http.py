"""What a proxy makes of HTTP/1: `h11` reads it, and this is stricter with requests. No I/O.

What two readers could take for two different things is refused (RFC 9112 names most of it),
for the server could be asked something other than what was checked. It does not know what
is allowed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import h11

from paddock.network import parse_host, parse_port, split_port

if TYPE_CHECKING:
    from paddock.network import Address

__all__ = ["Refused", "Request", "RequestReader", "answer", "answer_head", "to_server"]

HEAD_LIMIT = 32 * 1024
"""Bytes of a head: as much as common servers take."""
FIELDS_LIMIT = 100
ABSOLUTE = re.compile(r"(?i:http)://([^/?#]*)(/[^#]*|\?[^#]*|)")
AMBIGUOUS = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\n[ \t]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""Lines that do not end in CR LF, folded fields and control characters, which h11 allows."""
FRAMING_FIELD = re.compile(rb"\r\n(?:content-length|transfer-encoding):([^\r]*)", re.IGNORECASE)
FRAMING_VALUE = re.compile(rb"[ \t]*(?:[0-9]{1,18}|chunked)[ \t]*", re.IGNORECASE)
"""h11 also takes lists of equal lengths, and both fields at once."""
SHOWN_MAX = 300
"""Characters of a target in a log."""

FRAMING = frozenset((b"content-length", b"transfer-encoding"))
PER_CONNECTION = frozenset(
    (
        *(b"connection", b"proxy-connection", b"keep-alive", b"proxy-authenticate"),
        *(b"proxy-authorization", b"te", b"trailer", b"upgrade", b"http2-settings", b"host"),
    )
)
"""Fields that are about one connection only, and the one that is written anew."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asks a proxy for.

    `host` is in its one spelling. `onward` is what the server itself is asked, once and on a
    connection of its own; None if a connection is wanted (CONNECT).
    """

    host: str | Address
    port: int
    onward: h11.Request | None


class RequestReader:
    """Bytes of a client in, its one request and the body out. Every method raises `Refused`."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        self.whole = False
        """Whether the request has come to its end."""

    def feed_head(self, data: bytes) -> Request | None:
        """Return the request as soon as its head is whole. What came after it is kept."""
        start = max(0, len(self._head) - 3)
        self._head += data
        end = self._head.find(b"\r\n\r\n", start)
        if AMBIGUOUS.search(self._head, start, end if end >= 0 else len(self._head)):
            raise Refused(400, "its head has a folded or broken line, or a control character")
        if end > HEAD_LIMIT or (end < 0 and len(self._head) > HEAD_LIMIT):
            raise Refused(431, f"its head is longer than {HEAD_LIMIT} bytes")
        if end < 0:
            return None
        head = bytes(self._head[:end])
        line = head.partition(b"\r\n")[0]
        if head.count(b"\r\n") > FIELDS_LIMIT:
            raise Refused(431, f"it has more than {FIELDS_LIMIT} fields", host=shown(line))
        try:
            _check_framing(head)
            self._connection.receive_data(bytes(self._head))
            event = self._connection.next_event()
            assert isinstance(event, h11.Request)
            return _parse_request(event)
        except (h11.RemoteProtocolError, ValueError) as error:
            raise Refused(400, str(error)[:SHOWN_MAX], host=shown(line)) from None

    def feed_body(self, data: bytes) -> bytes:
        """Return what of the body has come; what comes after it is never read."""
        if data:
            self._connection.receive_data(data)
        pieces: list[bytes] = []
        try:
            while isinstance(event := self._connection.next_event(), h11.Data):
                pieces.append(event.data)
        except h11.RemoteProtocolError as error:
            raise Refused(400, f"its body is malformed: {str(error)[:SHOWN_MAX]}") from None
        if isinstance(event, h11.EndOfMessage):
            if event.headers:
                raise Refused(400, "there are fields after its body")
            self.whole = True
        return b"".join(pieces)

    @property
    def rest(self) -> bytes:
        """What came after the head of a CONNECT."""
        return self._connection.trailing_data[0]


def _check_framing(head: bytes) -> None:
    told = FRAMING_FIELD.findall(head)
    if len(told) > 1 or not all(FRAMING_VALUE.fullmatch(value) for value in told):
        raise ValueError("where its body ends is not clear")


def _parse_request(request: h11.Request) -> Request:
    target = request.target.decode("ascii")
    if request.http_version not in (b"1.0", b"1.1"):
        raise ValueError("its version is not one of HTTP/1")
    if request.http_version == b"1.0" and _values(request, b"transfer-encoding"):
        raise ValueError("where its body ends is not clear")
    if request.method == b"CONNECT":
        if _values(request, b"transfer-encoding") or any(
            value.strip(b"0") for value in _values(request, b"content-length")
        ):
            raise ValueError("a CONNECT has no body")
        host, port = _parse_authority(target, default=None)
        # Some clients name the host alone in the field.
        _check_host(request, host, port, default=port)
        return Request(host=host, port=port, onward=None)
    host, port, path = _parse_absolute(target)
    _check_host(request, host, port, default=80)
    return Request(host=host, port=port, onward=_onward(request, host, port, path))


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


def _check_host(request: h11.Request, host: str | Address, port: int, *, default: int) -> None:
    """The Host field, which h11 wants once in HTTP/1.1, names what the target names."""
    for value in _values(request, b"host"):
        if _parse_authority(value.decode("latin-1"), default=default) != (host, port):
            raise ValueError("its Host field and its target are not the same")


def _onward(request: h11.Request, host: str | Address, port: int, path: str) -> h11.Request:
    named = {
        option.strip().lower()
        for value in _values(request, b"connection")
        for option in value.split(b",")
    }
    dropped = (PER_CONNECTION | named) - FRAMING
    kept = [item for item in request.headers.raw_items() if item[0].lower() not in dropped]
    name = f"[{host}]" if ":" in str(host) else str(host)
    authority = name if port == 80 else f"{name}:{port}"
    return h11.Request(
        method=request.method,
        target=path,
        headers=[(b"Host", authority.encode()), *kept, (b"Connection", b"close")],
    )


def _values(request: h11.Request, wanted: bytes) -> list[bytes]:
    return [value for name, value in request.headers if name == wanted]


# ------------------------------------------------------------------------- answers


def to_server() -> h11.Connection:
    """A connection on which one request is passed on."""
    return h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)


def answer_head(event: h11.InformationalResponse | h11.Response) -> bytes:
    """An answer's head, as it goes to a client whose connection ends with the answer."""
    fields = [item for item in event.headers.raw_items() if item[0].lower() not in REWRITTEN]
    if isinstance(event, h11.Response):
        fields.append((b"Connection", b"close"))
    lines = [b"%s: %s" % item for item in fields]
    return b"\r\n".join([b"HTTP/1.1 %d %s" % (event.status_code, event.reason), *lines, b"", b""])


def answer(status: int, reason: str) -> bytes:
    """A whole answer of the proxy's own, after which it hangs up."""
    text = f"paddock: {reason}\n".encode()
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(text)}\r\n"
        "Connection: close\r\n\r\n"
    ).encode() + text


def shown(sent: bytes) -> str:
    """Return what somebody sent, fit to be logged: printable, and not long."""
    return sent[:SHOWN_MAX].decode("ascii", "backslashreplace").encode("unicode_escape").decode()
