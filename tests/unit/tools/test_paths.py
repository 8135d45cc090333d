"""File names as the model sees them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.runtime.permissions.paths import parse_path, show_path


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("a b/c.py", "a b/c.py"),
        ("-rf", "-rf"),
        ("$(id)", "$(id)"),
        ("back\\slash", "back\\slash"),
        ("ünï", "ünï"),
        ("two\nlines", '"two\\nlines"'),
        ("bytes\udcff", '"bytes\\xff"'),
        ('"', '"\\""'),
        (" led", '" led"'),
        ("no\u00a0break", '"no\\u00a0break"'),
        ("\U000e0001", '"\\U000e0001"'),
    ],
)
def test_a_name_that_cannot_be_read_plainly_is_quoted(path: str, shown: str) -> None:
    assert show_path(path) == shown
    assert parse_path(shown) == path


@given(st.text(st.characters()))
def test_what_is_shown_is_printable_and_gives_the_name_back(path: str) -> None:
    shown = show_path(path)
    assert shown.isprintable()
    assert parse_path(shown) == path


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name))
def test_every_name_that_linux_allows_survives(name: bytes) -> None:
    path = name.decode("utf-8", "surrogateescape")
    assert parse_path(show_path(path)).encode("utf-8", "surrogateescape") == name


@given(st.text(st.characters()))
def test_any_text_from_a_model_is_some_path(text: str) -> None:
    assert isinstance(parse_path(text), str)
