"""What the allow-list proxy makes of requests and addresses, without any I/O."""

from __future__ import annotations

import contextlib
import http.client
import io
import itertools
from ipaddress import IPv4Address, IPv6Address, ip_address

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.backends.egress.http import (
    FIELDS_LIMIT,
    HEAD_LIMIT,
    Refused,
    Request,
    RequestReader,
    answer_head,
    to_server,
)
from paddock.backends.egress.outside import objection

# ------------------------------------------------------------------------- requests


def head(line: str, *fields: str) -> bytes:
    return "\r\n".join([line, *fields]).encode("latin-1")


def read(head: bytes) -> Request:
    request = RequestReader().feed_head(head + b"\r\n\r\n")
    assert request is not None
    return request


def passed_on(request: Request) -> bytes:
    assert request.onward is not None
    return to_server().send(request.onward)


def test_a_plain_request_is_asked_for_at_its_server_without_what_was_for_the_proxy() -> None:
    request = read(
        head(
            "POST HTTP://Example.ORG.:8080?q=1 HTTP/1.1",
            "Host: example.org:8080",
            "Connection: keep-alive, X-Secret",
            "X-Secret: for the proxy",
            "Proxy-Authorization: Basic eA==",
            "Proxy-Connection: keep-alive",
            "Upgrade: websocket",
            "Accept: \xe9",
            "Content-Length: 3",
        )
    )
    assert (request.host, request.port) == ("example.org", 8080)
    assert passed_on(request) == (
        b"POST /?q=1 HTTP/1.1\r\nHost: example.org:8080\r\nAccept: \xe9\r\n"
        b"Content-Length: 3\r\nConnection: close\r\n\r\n"
    )


def test_a_connect_is_a_host_and_a_port() -> None:
    request = read(head("CONNECT example.org:443 HTTP/1.1", "Host: example.org"))
    assert (request.host, request.port, request.onward) == ("example.org", 443, None)
    request = read(head("CONNECT [2001:db8::1]:443 HTTP/1.0"))
    assert (request.host, request.port) == (ip_address("2001:db8::1"), 443)


HOST = "Host: a.test"

REFUSED = {
    "no line": b"",
    "garbage": b"\x16\x03\x01\x02\x00",
    "origin form": head("GET / HTTP/1.1", HOST),
    "asterisk": head("OPTIONS * HTTP/1.1", HOST),
    "https": head("GET https://a.test/ HTTP/1.1", HOST),
    "ftp": head("GET ftp://a.test/ HTTP/1.1", HOST),
    "no authority": head("GET http:///x HTTP/1.1", HOST),
    "one slash": head("GET http:/a.test HTTP/1.1", HOST),
    "fragment": head("GET http://a.test/#x HTTP/1.1", HOST),
    "userinfo": head("GET http://b.test@a.test/ HTTP/1.1", HOST),
    "backslash": head("GET http://a.test\\@b.test/ HTTP/1.1", HOST),
    "percent": head("GET http://%61.test/ HTTP/1.1", HOST),
    "nul in target": head("GET http://a.test\0/ HTTP/1.1", HOST),
    "space in target": head("GET http://a.test/x y HTTP/1.1", HOST),
    "tab in line": head("GET\thttp://a.test/ HTTP/1.1", HOST),
    "two spaces": head("GET  http://a.test/ HTTP/1.1", HOST),
    "not ascii": head("GET http://\xe4.test/ HTTP/1.1", "Host: \xe4.test"),
    "version 2": head("GET http://a.test/ HTTP/2.0", HOST),
    "no version": head("GET http://a.test/", HOST),
    "port 0": head("GET http://a.test:0/ HTTP/1.1", "Host: a.test:0"),
    "empty port": head("GET http://a.test:/ HTTP/1.1", HOST),
    "two ports": head("GET http://a.test:80:80/ HTTP/1.1", HOST),
    "connect without port": head("CONNECT a.test HTTP/1.1", HOST),
    "connect to a url": head("CONNECT http://a.test:443 HTTP/1.1", HOST),
    "connect userinfo": head("CONNECT b.test@a.test:443 HTTP/1.1", HOST),
    "connect with body": head("CONNECT a.test:443 HTTP/1.1", HOST, "Content-Length: 5"),
    "connect elsewhere": head("CONNECT a.test:443 HTTP/1.1", "Host: b.test:443"),
    "connect other port": head("CONNECT a.test:443 HTTP/1.1", "Host: a.test:80"),
    "hex address": head("CONNECT 0x7f000001:80 HTTP/1.1"),
    "octal address": head("CONNECT 0177.0.0.1:80 HTTP/1.1"),
    "decimal address": head("CONNECT 2130706433:80 HTTP/1.1"),
    "short address": head("CONNECT 127.1:80 HTTP/1.1"),
    "address with a dot": head("CONNECT 127.0.0.1.:80 HTTP/1.1"),
    "bare ipv6": head("CONNECT ::1:80 HTTP/1.1"),
    "scoped ipv6": head("CONNECT [fe80::1%25lo]:80 HTTP/1.1"),
    "no host": head("GET http://a.test/ HTTP/1.1"),
    "two hosts": head("GET http://a.test/ HTTP/1.1", HOST, HOST),
    "other host": head("GET http://a.test/ HTTP/1.1", "Host: b.test"),
    "other port": head("GET http://a.test/ HTTP/1.1", "Host: a.test:8080"),
    "empty host": head("GET http://a.test/ HTTP/1.1", "Host:"),
    "folded field": head("GET http://a.test/ HTTP/1.1", HOST, "X: 1", " 2"),
    "space before colon": head("GET http://a.test/ HTTP/1.1", HOST, "X : 1"),
    "no colon": head("GET http://a.test/ HTTP/1.1", HOST, "X"),
    "empty name": head("GET http://a.test/ HTTP/1.1", HOST, ": 1"),
    "bare cr": head("GET http://a.test/ HTTP/1.1", HOST, "X: 1\rY: 2"),
    "bare lf": head("GET http://a.test/ HTTP/1.1", HOST, "X: 1\nY: 2"),
    "nul in field": head("GET http://a.test/ HTTP/1.1", HOST, "X: 1\0"),
    "two lengths": head("GET http://a.test/ HTTP/1.1", HOST, *["Content-Length: 1"] * 2),
    "a list of lengths": head("GET http://a.test/ HTTP/1.1", HOST, "Content-Length: 1, 1"),
    "signed length": head("GET http://a.test/ HTTP/1.1", HOST, "Content-Length: +1"),
    "negative length": head("GET http://a.test/ HTTP/1.1", HOST, "Content-Length: -1"),
    "long length": head("GET http://a.test/ HTTP/1.1", HOST, "Content-Length: " + "1" * 19),
    "length and chunks": head(
        "GET http://a.test/ HTTP/1.1", HOST, "Content-Length: 1", "Transfer-Encoding: chunked"
    ),
    "two encodings": head("GET http://a.test/ HTTP/1.1", HOST, "Transfer-Encoding: gzip, chunked"),
    "strange encoding": head("GET http://a.test/ HTTP/1.1", HOST, "Transfer-Encoding: xchunked"),
    "encoding twice": head(
        "GET http://a.test/ HTTP/1.1", HOST, *["Transfer-Encoding: chunked"] * 2
    ),
    "chunks in 1.0": head("GET http://a.test/ HTTP/1.0", HOST, "Transfer-Encoding: chunked"),
    "many fields": head("GET http://a.test/ HTTP/1.1", HOST, *["X: 1"] * FIELDS_LIMIT),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_be_read_in_two_ways_is_refused(name: str) -> None:
    with pytest.raises(Refused) as refused:
        read(REFUSED[name])
    assert refused.value.status in (400, 431)
    assert refused.value.reason
    assert refused.value.host.isprintable()


TARGETS = st.one_of(
    st.text(max_size=30),
    st.from_regex(r"(http|HTTP)://[a-z0-9.:@\[\]%\\-]{0,20}(/[!-~]{0,10})?", fullmatch=True),
    st.from_regex(r"[a-z0-9.:\[\]-]{1,20}:[0-9]{1,5}", fullmatch=True),
)
FIELDS = st.lists(
    st.one_of(
        st.text(max_size=30),
        st.sampled_from(
            [HOST, "Content-Length: 5", "Transfer-Encoding: chunked", "Connection: host"]
        ),
    ),
    max_size=4,
)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    with contextlib.suppress(Refused):
        read(data)


@given(method=st.sampled_from(["GET", "CONNECT", "POST"]), target=TARGETS, fields=FIELDS)
def test_what_is_passed_on_reads_the_same_to_a_server(
    method: str, target: str, fields: list[str]
) -> None:
    raw = "\r\n".join([f"{method} {target} HTTP/1.1", *fields]).encode("utf-8", "replace")
    try:
        request = read(raw)
    except Refused:
        return
    assert (method == "CONNECT") is (request.onward is None)
    if request.onward is not None:
        seen = io.BytesIO(passed_on(request))
        line = seen.readline().decode("latin-1").split()
        assert line == [method, request.onward.target.decode(), "HTTP/1.1"]
        told = http.client.parse_headers(seen)
        (host,) = told.get_all("host", [])
        assert host in (str(request.host), f"{request.host}:{request.port}", f"[{request.host}]")
        assert told.get_all("connection") == ["close"]
        lengths, encodings = told.get_all("content-length", []), told.get_all("transfer-encoding")
        assert len(lengths) <= (encodings is None)
        assert encodings in (None, ["chunked"])
        assert seen.read() == b""


# ------------------------------------------------------------------------- heads


@given(cuts=st.lists(st.integers(0, 80), max_size=8))
def test_a_head_is_whole_with_its_last_byte_however_it_is_cut(cuts: list[int]) -> None:
    data = b"CONNECT a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\nbody\n\n"
    reader, found = RequestReader(), None
    borders = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    for start, end in itertools.pairwise(borders):
        found = reader.feed_head(data[start:end])
        if found is not None:
            break
    assert found is not None
    assert start < data.index(b"body") <= end
    assert reader.rest + data[end:] == b"body\n\n"


@pytest.mark.parametrize("data", [b"GET x\n\n", b"GET x\r\nHost: x\n\n", b"\n", b"\x16\x03\x01"])
def test_a_head_that_is_none_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(Refused):
        RequestReader().feed_head(data)


def test_a_head_without_end_is_refused_at_its_limit() -> None:
    reader = RequestReader()
    assert reader.feed_head(b"x" * HEAD_LIMIT) is None
    with pytest.raises(Refused) as refused:
        reader.feed_head(b"x")
    assert refused.value.status == 431


# ------------------------------------------------------------------------- bodies


def reader_of(framing: str) -> RequestReader:
    """Return one that has read a head and expects a body."""
    reader = RequestReader()
    assert reader.feed_head(head("POST http://a.test/ HTTP/1.1", HOST, framing, "", ""))
    return reader


def feed_all(reader: RequestReader, stream: bytes, cut: int) -> bytes:
    body = b""
    for at in range(0, len(stream), cut):
        body += reader.feed_body(stream[at : at + cut])
        if reader.whole:
            break
    return body


@given(pieces=st.lists(st.binary(min_size=1, max_size=300), max_size=5), cut=st.integers(1, 50))
def test_a_body_in_chunks_ends_where_it_ends(pieces: list[bytes], cut: int) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    stream = chunks + b"0\r\n\r\nGET http://next.test/ HTTP/1.1\r\n\r\n"
    reader = reader_of("Transfer-Encoding: chunked")
    assert feed_all(reader, stream, cut) == b"".join(pieces)
    assert reader.whole


@given(length=st.integers(0, 100), cut=st.integers(1, 50))
def test_a_body_of_known_length_ends_there(length: int, cut: int) -> None:
    reader = reader_of(f"Content-Length: {length}")
    assert feed_all(reader, bytes(200), cut) == bytes(length)
    assert reader.whole


@pytest.mark.parametrize(
    "data",
    [
        *(b"x\r\n", b"-1\r\n", b"+1\r\n", b"0x1\r\n", b" 1\r\n", b"\r\n", b"1\nx\r\n"),
        *(b"1\r\nabc\r\n", b"1\r\na\n", b"0\r\nTrailer: 1\r\n\r\n", b"0\r\n: \r\n\r\n"),
        *(b"f" * 21 + b"\r\n", b"1" * (HEAD_LIMIT + 1)),
    ],
)
def test_chunks_that_could_be_read_in_two_ways_are_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        reader_of("Transfer-Encoding: chunked").feed_body(data)


@given(st.binary(max_size=100), st.integers(1, 20))
def test_any_bytes_are_a_body_or_refused_and_never_more_than_came(data: bytes, cut: int) -> None:
    with contextlib.suppress(Refused):
        assert len(feed_all(reader_of("Transfer-Encoding: chunked"), data, cut)) <= len(data)


# ------------------------------------------------------------------------- answers


def test_an_answer_says_that_the_connection_ends_with_it_and_keeps_the_rest() -> None:
    fields = [
        (b"X-Kept", b"\xe9"),
        (b"Keep-Alive", b"5"),
        (b"Connection", b"x"),
        (b"Upgrade", b"y"),
    ]
    told = h11.Response(status_code=299, reason="Why not", headers=fields)
    assert answer_head(told) == (
        b"HTTP/1.1 299 Why not\r\nX-Kept: \xe9\r\nConnection: close\r\n\r\n"
    )


# ------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "10.1.2.3", "100.100.100.200", "127.0.0.1", "127.255.255.254"),
        *("168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192"),
        *("192.168.1.1", "198.18.0.1", "203.0.113.5", "224.0.0.1", "255.255.255.255"),
        *("::", "::1", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "::7f00:1", "64:ff9b::7f00:1"),
        *("64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "fc00::1"),
        *("fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "5f00::1", "3fff::1"),
    ],
)
def test_an_address_that_is_not_public_is_objected_to(address: str) -> None:
    assert objection(ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "172.32.0.1", "2606:4700::1111"])
def test_a_public_address_is_not_objected_to(address: str) -> None:
    assert objection(ip_address(address)) is None


@given(st.ip_addresses())
def test_what_the_standard_library_calls_private_is_never_taken_for_public(
    address: IPv4Address | IPv6Address,
) -> None:
    if address.is_private or address.is_multicast or address.is_reserved:
        assert objection(address)
