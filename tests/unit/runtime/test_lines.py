"""Lines out of pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from paddock.runtime.core.lines import LineBuffer

MEGABYTE = 1 << 20


@given(st.lists(st.text("ab\n", max_size=6)))
def test_the_lines_are_the_same_however_they_are_cut(pieces: list[str]) -> None:
    buffer = LineBuffer()
    lines = [line for piece in pieces for line in buffer.feed(piece.encode())]
    *whole, rest = "".join(pieces).encode().split(b"\n")
    assert (lines, len(buffer)) == (whole, len(rest))


def test_a_long_line_in_tiny_pieces_is_not_read_again_for_each() -> None:
    """Half a million pieces: to copy what came before at each would take minutes."""
    buffer = LineBuffer()
    for _ in range(MEGABYTE // 2):
        assert list(buffer.feed(b"ab")) == []
    assert list(buffer.feed(b"\n")) == [b"ab" * (MEGABYTE // 2)]
