"""Nothing that a sandbox prints reaches the terminal as more than text."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.cli.text import one_line, plain


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("abc\rxyz", r"abc\rxyz"),
        ("if admin\u202e }\u2066", r"if admin\u202e }\u2066"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("\ud83d lone", r"\ud83d lone"),
        ("line\u2028separator", r"line\u2028separator"),
        ("\U000e0041 tag", r"\U000e0041 tag"),
    ],
)
def test_what_does_not_print_is_written_out(given_text: str, shown: str) -> None:
    assert plain(given_text) == shown


def test_text_of_any_language_stays_as_it_is() -> None:
    text = "naïve, 漢字, مرحبا, 🐎\n\tindented"
    assert plain(text) == text


def test_line_ends_of_another_system_are_line_ends() -> None:
    assert plain("one\r\ntwo\r\n") == "one\ntwo\n"


@given(st.text(st.characters(exclude_categories=())))
def test_nothing_that_controls_a_terminal_ever_passes(text: str) -> None:
    for character in plain(text):
        assert character in "\n\t" or unicodedata.category(character)[0] != "C"
        assert character not in "\u2028\u2029"


def test_one_line_is_cut_with_an_ellipsis() -> None:
    assert one_line("a\n b   c", 10) == "a b c"
    assert one_line("x" * 50, 10) == "x" * 9 + "…"


def test_one_line_of_a_huge_text_looks_only_at_its_beginning() -> None:
    assert one_line("x" * 10_000_000, 5) == "xxxx…"
