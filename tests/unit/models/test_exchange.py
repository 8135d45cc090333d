"""An answer of HTTP/1.1 is read the same, wherever its bytes are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.runtime.models._exchange import MAX_LINE, MAX_TRAILERS, BadAnswer, Exchange

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKS = b'3\r\none\r\n0005 ; kind="x"\r\n\r\ntwo\r\n0\r\nX-Checked: yes\r\n\r\n'


def read(data: bytes, cuts: list[int] = [], *, ends: bool = False) -> Exchange:  # noqa: B006
    exchange = Exchange()
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    for begin, end in itertools.pairwise(places):
        exchange.feed(data[begin:end])
    if ends:
        exchange.end()
    return exchange


@pytest.mark.parametrize(
    ("answer", "body", "keeps_alive"),
    [
        (CHUNKED + CHUNKS, b"one\r\ntwo", True),
        (HEAD + b"Content-Length: 5\r\n\r\nthree", b"three", True),
        (HEAD + b"Content-Length: 0\r\n\r\n", b"", True),
        (HEAD + b"Content-Length: 5\r\nConnection: Close\r\n\r\nthree", b"three", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nthree", b"three", False),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED + CHUNKS, b"one\r\ntwo", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (HEAD + b"Content-Length: 5\r\n\r\nthree and more", b"three", False),
    ],
    ids=["chunks", "length", "empty", "close", "1.0", "after 100", "204", "more than was said"],
)
@given(cuts=st.lists(st.integers(0, 1000), max_size=8))
def test_an_answer_is_the_same_wherever_it_is_cut(
    answer: bytes, body: bytes, keeps_alive: bool, cuts: list[int]
) -> None:
    exchange = read(answer, cuts)
    assert exchange.head is not None
    assert exchange.is_complete
    assert exchange.take() == body
    assert exchange.take() == b""
    assert exchange.keeps_alive is keeps_alive


def test_a_body_without_a_size_ends_with_the_connection() -> None:
    exchange = read(HEAD + b"\r\nto the end")
    assert not exchange.is_complete
    assert exchange.take() == b"to the end"
    exchange.end()
    assert exchange.take() == b""
    assert (exchange.is_complete, exchange.keeps_alive) == (True, False)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        HEAD + b"Content-Length: 5\r\n\r\nthre",
        CHUNKED + b"3\r\none\r\n",
        CHUNKED + b"3\r\none\r\n0\r\n",
    ],
    ids=["nothing", "half a head", "half a body", "a missing chunk", "half of the end"],
)
def test_a_connection_that_ends_too_early_is_an_error(answer: bytes) -> None:
    with pytest.raises(BadAnswer, match="closed the connection"):
        read(answer, ends=True)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 200_000,
        HEAD + b"Content-Length: five\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
        CHUNKED + b"five\r\nthree\r\n",
        CHUNKED + b"-1\r\nthree\r\n",
        CHUNKED + b"1_0\r\nthree\r\n",
        CHUNKED + b"f" * 20 + b"\r\n",
        CHUNKED + b"5\r\nthree!!",
        CHUNKED + b"1" * (MAX_LINE + 1),
        CHUNKED + b"0\r\n" + b"X: x\r\n" * (MAX_TRAILERS + 1),
    ],
)
def test_what_is_no_answer_is_an_error(answer: bytes) -> None:
    with pytest.raises(BadAnswer):
        read(answer)
