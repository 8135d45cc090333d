"""What the allow-list proxy makes of requests and addresses, without any I/O."""

from __future__ import annotations

import contextlib
import http.client
import io
import itertools
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.backends.egress.http import (
    FIELDS_LIMIT,
    HEAD_LIMIT,
    Body,
    Head,
    Refused,
    parse_request,
)
from paddock.backends.egress.outside import objection

# ------------------------------------------------------------------------- requests


def head(line: str, *fields: str) -> bytes:
    return "\r\n".join([line, *fields]).encode("latin-1")


def test_a_plain_request_is_asked_for_at_its_server_without_what_was_for_the_proxy() -> None:
    request = parse_request(
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
    assert (request.host, request.port, request.length) == ("example.org", 8080, 3)
    assert request.head() == (
        b"POST /?q=1 HTTP/1.1\r\nHost: example.org:8080\r\nAccept: \xe9\r\n"
        b"Content-Length: 3\r\nConnection: close\r\n\r\n"
    )


def test_a_connect_is_a_host_and_a_port() -> None:
    request = parse_request(head("CONNECT example.org:443 HTTP/1.1", "Host: example.org"))
    assert (request.host, request.port, request.target) == ("example.org", 443, None)
    request = parse_request(head("CONNECT [2001:db8::1]:443 HTTP/1.0"))
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
        parse_request(REFUSED[name])
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
        parse_request(data)


@given(method=st.sampled_from(["GET", "CONNECT", "POST"]), target=TARGETS, fields=FIELDS)
def test_what_is_passed_on_reads_the_same_to_a_server(
    method: str, target: str, fields: list[str]
) -> None:
    raw = "\r\n".join([f"{method} {target} HTTP/1.1", *fields]).encode("utf-8", "replace")
    try:
        request = parse_request(raw)
    except Refused:
        return
    assert method != "CONNECT" or request.target is None
    if request.target is not None:
        seen = io.BytesIO(request.head())
        line = seen.readline().decode("latin-1").split()
        assert line == [method, request.target, "HTTP/1.1"]
        told = http.client.parse_headers(seen)
        assert told.get_all("host") == [request.authority]
        assert told.get_all("connection") == ["close"]
        assert len(told.get_all("content-length", [])) <= 1
        assert (told["transfer-encoding"] == "chunked") is (request.length is None)
        assert seen.read() == b""


# ------------------------------------------------------------------------- heads


@given(cuts=st.lists(st.integers(0, 60), max_size=8))
def test_a_head_is_whole_with_its_last_byte_however_it_is_cut(cuts: list[int]) -> None:
    data = b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\nbody\n\n"
    found, rest = None, b""
    reader = Head()
    borders = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    for start, end in itertools.pairwise(borders):
        if found is None:
            found = reader.feed(data[start:end])
            rest = data[end:]
    assert found is not None
    assert found[0] == data.partition(b"\r\n\r\n")[0]
    assert found[1] + rest == b"body\n\n"


@pytest.mark.parametrize("data", [b"GET x\n\n", b"GET x\r\nHost: x\n\n", b"\n"])
def test_lines_that_end_in_lf_alone_are_refused_at_once(data: bytes) -> None:
    with pytest.raises(Refused):
        Head().feed(data)


def test_a_head_without_end_is_refused_at_its_limit() -> None:
    reader = Head()
    assert reader.feed(b"x" * HEAD_LIMIT) is None
    with pytest.raises(Refused) as refused:
        reader.feed(b"x")
    assert refused.value.status == 431


# ------------------------------------------------------------------------- bodies


@given(pieces=st.lists(st.binary(min_size=1, max_size=300), max_size=5), cut=st.integers(1, 50))
def test_a_body_in_chunks_ends_where_it_ends(pieces: list[bytes], cut: int) -> None:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    body = chunks + b"0\r\n\r\n"
    stream = body + b"GET http://next.test/ HTTP/1.1\r\n\r\n"
    parser = Body(None)
    passed = b"".join(parser.feed(stream[at : at + cut]) for at in range(0, len(stream), cut))
    assert passed == body
    assert parser.whole


@given(length=st.integers(0, 100), cut=st.integers(1, 50))
def test_a_body_of_known_length_ends_there(length: int, cut: int) -> None:
    parser = Body(length)
    stream = bytes(200)
    passed = b"".join(parser.feed(stream[at : at + cut]) for at in range(0, 200, cut))
    assert passed == bytes(length)
    assert parser.whole


@pytest.mark.parametrize(
    "data",
    [
        *(b"x\r\n", b"-1\r\n", b"+1\r\n", b"0x1\r\n", b" 1\r\n", b"1 \r\n", b"\r\n", b"1\n"),
        *(b"1;ext\r\n", b"1\r\nabc\r\n", b"1\r\na\n", b"0\r\nTrailer: 1\r\n\r\n", b"0\r\n\n"),
        *(b"f" * 16 + b"\r\n", b"1" * 18),
    ],
)
def test_chunks_that_could_be_read_in_two_ways_are_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        Body(None).feed(data)


@given(st.binary(max_size=100), st.integers(1, 20))
def test_any_bytes_are_a_body_or_refused_and_never_more_than_came(data: bytes, cut: int) -> None:
    parser = Body(None)
    with contextlib.suppress(Refused):
        for at in range(0, len(data), cut):
            piece = data[at : at + cut]
            assert piece.startswith(parser.feed(piece))


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
