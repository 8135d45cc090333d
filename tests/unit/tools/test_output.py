"""What is left of a long output."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.runtime.core.output import truncate_output


def test_output_within_the_limit_stays_as_it_is() -> None:
    assert truncate_output("x" * 20_000) == "x" * 20_000


@pytest.mark.rows("S-30")
def test_long_output_keeps_its_beginning_and_its_end_and_tells_the_rest() -> None:
    text = "".join(f"line {number}\n" for number in range(10_000))
    shown = truncate_output(text)
    assert shown.startswith("Total output lines: 10000\n\nline 0\nline 1\n")
    assert shown.endswith("line 9998\nline 9999\n")
    missing = -(-(len(text) - 20_000) // 4)
    head, tail = shown.split(f"\n...{missing} tokens truncated...\n")
    assert len(head.removeprefix("Total output lines: 10000\n\n")) == len(tail) == 10_000
    assert len(shown) < 20_100


@pytest.mark.parametrize(("text", "lines"), [("a\nb" * 9, 10), ("a\nb\n" * 9, 18)])
def test_a_missing_newline_at_the_end_is_still_a_line(text: str, lines: int) -> None:
    assert truncate_output(text, max_tokens=1).startswith(f"Total output lines: {lines}\n")


@given(st.text(st.characters()), st.integers(min_value=1, max_value=20))
def test_the_result_is_bounded_and_valid_unicode(text: str, tokens: int) -> None:
    shown = truncate_output(text, max_tokens=tokens)
    assert len(shown.encode()) <= tokens * 4 + 80


def test_a_character_is_never_cut_in_two() -> None:
    shown = truncate_output("ü" * 1000, max_tokens=5)
    assert set(shown.split("\n")[2]) == {"ü"}


def test_surrogates_become_readable() -> None:
    assert truncate_output("a\udcffb") == "a\N{REPLACEMENT CHARACTER}b"
