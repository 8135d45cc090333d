"""Frames and captures, without any I/O."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.backends.guest.inside import wire

FRAMES = st.lists(
    st.tuples(
        st.integers(0, 255), st.integers(0, 2**32 - 1), st.one_of(st.binary(), st.just(b"x" * 5000))
    ),
    max_size=8,
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    borders = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(borders)]


@given(frames=FRAMES, places=st.lists(st.integers(0, 100_000), max_size=12))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(
    frames: list[tuple[int, int, bytes]], places: list[int]
) -> None:
    stream = b"".join(wire.frame(*frame) for frame in frames)
    parser = wire.Frames()
    assert [frame for piece in cut(stream, places) for frame in parser.feed(piece)] == frames


@given(frames=FRAMES.filter(bool))
def test_a_frame_is_given_out_with_its_last_byte(frames: list[tuple[int, int, bytes]]) -> None:
    stream = b"".join(wire.frame(*frame) for frame in frames)
    parser = wire.Frames()
    assert parser.feed(stream[:-1]) == frames[:-1]
    assert parser.feed(stream[-1:]) == frames[-1:]


def test_a_frame_over_the_limit_is_refused_at_its_header() -> None:
    longest = wire.HEADER.pack(wire.MAX_FRAME, wire.DATA, 1)
    assert wire.Frames().feed(longest) == []
    with pytest.raises(ValueError, match="over the limit"):
        wire.Frames().feed(wire.HEADER.pack(wire.MAX_FRAME + 1, wire.DATA, 1))


def test_the_largest_contents_and_any_paths_fit_in_a_frame() -> None:
    body = {"path": "\udcff" * 4096, "to": "\udcff" * 4096}
    assert len(wire.message(body, bytes(wire.INLINE))) < wire.MAX_FRAME


@given(
    body=st.dictionaries(st.text(), st.one_of(st.integers(), st.text(), st.none())),
    blob=st.binary(),
)
def test_a_message_comes_back_whole(body: dict[str, object], blob: bytes) -> None:
    assert wire.parse_message(wire.message(body, blob)) == (body, blob)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\x05{}",
        b"\0\0\0\x02[]",
        b"\0\0\0\x02{x",
        b"\0\0\0\x02\xff\xff",
        wire.LENGTH.pack(100_000) + b"[" * 100_000,
    ],
)
def test_a_broken_message_is_a_value_error(payload: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever it is
        wire.parse_message(payload)


@given(
    pieces=st.lists(st.one_of(st.binary(max_size=40), st.just(b"y" * 70_000)), max_size=12),
    keep=st.integers(0, 100),
    look=st.booleans(),
)
def test_a_capture_keeps_what_a_naive_one_keeps(pieces: list[bytes], keep: int, look: bool) -> None:
    capture = wire.Capture(keep)
    to_head = 0
    for piece in pieces:
        to_head += capture.feed(piece)
        if look:
            assert capture.dropped >= 0
    whole = b"".join(pieces)
    head, rest = whole[: (keep + 1) // 2], whole[(keep + 1) // 2 :]
    assert bytes(capture.head) == head
    assert bytes(capture.tail) == rest[max(0, len(rest) - keep // 2) :]
    assert len(capture.head) + capture.dropped + len(capture.tail) == capture.total == len(whole)
    assert to_head == len(head)


def test_a_capture_holds_no_more_than_it_may() -> None:
    capture = wire.Capture(1000)
    for _ in range(200):
        capture.feed(bytes(wire.PIECE))
        assert len(capture._tail) <= 2 * 500 + 2 * wire.PIECE
