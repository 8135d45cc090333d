"""The parser of server-sent events, fed by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.runtime.models._sse import EventTooLong, SSEParser

LINES = st.sampled_from(
    ["data: a", "data:b", "data:  c", "data", "data:", ": hello", "event: x", "id: 1", "", "", "é"]
)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])
STREAMS = st.lists(st.tuples(LINES, ENDS)).map(lambda parts: "".join(map("".join, parts)).encode())


def parse(*parts: bytes) -> list[bytes]:
    parser = SSEParser()
    return [event for part in parts for event in parser.feed(part)]


@given(stream=STREAMS, data=st.data())
def test_any_cutting_of_a_stream_gives_the_same_events(stream: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    bounds = [0, *cuts, len(stream)]
    parts = [stream[start:end] for start, end in pairwise(bounds)]
    whole = parse(stream)
    assert parse(*parts) == whole
    assert parse(*(stream[i : i + 1] for i in range(len(stream)))) == whole


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data\ndata\n\n", [b"\n"]),
        (b": a comment\ndata: a\n: another\n\n", [b"a"]),
        (b"event: x\nid: 7\nretry: 3\ndata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"\n\n\n", []),
        (b"database: no\n\n", []),
        ("data: a\u2028b\x0bc\x85\n\n".encode(), ["a\u2028b\x0bc\x85".encode()]),
    ],
)
def test_a_stream_has_these_events(stream: bytes, events: list[bytes]) -> None:
    assert parse(stream) == events


def test_a_return_within_a_piece_does_not_eat_the_newline_of_the_next() -> None:
    stream = b"data: a\rdata: a\n\n"
    for cut in range(len(stream)):
        parser = SSEParser()
        assert parser.feed(stream[:cut]) + parser.feed(stream[cut:]) == [b"a\na"]


def test_an_event_that_the_stream_ends_in_is_never_given_out() -> None:
    assert parse(b"data: a\n\ndata: b\n") == [b"a"]


@pytest.mark.parametrize(
    "parts", [[b"data: " + b"x" * 100], [b"data: 12345678\n"] * 20, [b"x" * 9] * 20]
)
def test_an_event_without_end_is_refused_instead_of_held(parts: list[bytes]) -> None:
    parser = SSEParser(max_bytes=64)
    with pytest.raises(EventTooLong, match="more than 64 bytes"):
        for part in parts:
            parser.feed(part)


def test_the_limit_is_for_each_event_and_not_for_the_stream() -> None:
    parser = SSEParser(max_bytes=16)
    events = [event for _ in range(100) for event in parser.feed(b"data: 12345678\n\n")]
    assert len(events) == 100
