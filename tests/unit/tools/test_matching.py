"""Where an edit goes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.runtime.tools.matching import EditError, Match, replace_once


@pytest.mark.parametrize(
    ("text", "old", "new", "after", "match"),
    [
        ("a b c", "b", "B", "a B c", Match.EXACT),
        ("a\nb\nc", "a\nb", "", "\nc", Match.EXACT),
        ("a  \nb\t\nc\n", "a\nb\n", "x\ny\n", "x\ny\nc\n", Match.TRAILING_SPACE),
        ("a\nb\n", "a \nb ", "x", "x\n", Match.TRAILING_SPACE),
        ("a \nb \nc", "a\nb", "", "c", Match.TRAILING_SPACE),
        ("c\na \nb ", "a\nb", "", "c", Match.TRAILING_SPACE),
        ("a \nb ", "a\nb", "", "", Match.TRAILING_SPACE),
        ("a \nb ", "a\nb\n", "x\n", "x", Match.TRAILING_SPACE),  # still no newline at the end
        (
            "if x:\n    if y:\n        z()\n",
            "if y:\n    z()\n",
            "if y:\n    z()\n    w()\n",
            "if x:\n    if y:\n        z()\n        w()\n",
            Match.INDENTATION,
        ),
        (
            "\tdef f():\n\t\treturn 1\n",
            "    def f():\n        return 1",
            "    def f():\n        if x:\n            return 2",
            "\tdef f():\n\t\tif x:\n\t\t\treturn 2\n",
            Match.INDENTATION,
        ),
        (
            "    a()\n\n    b()\n",
            "        a()\n\n        b()\n",
            "        a()\n\n    c()\n        b()\n",
            "    a()\n\nc()\n    b()\n",
            Match.INDENTATION,
        ),
        ("  a\n      b\n", "a\n    b", "a\n  c", "  a\n    c\n", Match.INDENTATION),
    ],
)
def test_the_text_is_found_by_the_strictest_way_that_finds_it(
    text: str, old: str, new: str, after: str, match: Match
) -> None:
    edited = replace_once(text, old, new)
    assert edited.text == after
    assert edited.match is match


@pytest.mark.parametrize(
    ("text", "old", "new", "after"),
    [
        ("a\r\nb\r\n", "a\nb", "x\ny\nz", "x\r\ny\r\nz\r\n"),
        ("a\r\nb\r\n", "a", "x\ny", "x\r\ny\r\nb\r\n"),
        ("a\r\nb", "b", "x\ny", "a\r\nx\r\ny"),
        ("a\r\nb\nc\r\n", "b", "x\ny", "a\r\nx\ny\nc\r\n"),
        ("a\r\nb\nc\r\n", "b\nc", "x", "a\r\nx\r\n"),
        ("a  \r\nb\r\n", "a\nb", "x\ny", "x\r\ny\r\n"),
        ("a\r\nb\r\n", "a\r\n", "x\n", "x\nb\r\n"),  # who writes the ends gets them
        ("a\r\nb\r\nc\r\n", "b\n", "", "a\r\nc\r\n"),
        ("a\nb\n", "a", "x\r\ny", "x\r\ny\nb\n"),
        ("a\r\r\nb\r\n", "b", "x\ny", "a\r\r\nx\r\ny\r\n"),
    ],
)
def test_line_ends_are_those_of_the_surroundings(text: str, old: str, new: str, after: str) -> None:
    assert replace_once(text, old, new).text == after


@pytest.mark.parametrize(
    ("text", "old", "times"),
    [("x x", "x", 2), ("aaa", "aa", 2), ("a \nb\na \nb", "a\nb", 2), ("  a\nb\n a\nb", "a\nb", 2)],
)
def test_text_that_occurs_more_than_once_is_refused(text: str, old: str, times: int) -> None:
    with pytest.raises(EditError) as caught:
        replace_once(text, old, "y")
    assert str(caught.value) == (
        f"old_string appears {times} times (must be unique). Add more context."
    )


@pytest.mark.parametrize(
    ("text", "old"),
    [
        ("a", "b"),
        ("", "x"),
        ("a\n  b\n", "a\nb"),  # another shape
        ("a\nb\n", "a\n  b"),
        ("  a\n  b\n", "  a\n    b"),
        ("a\n\n\nb", " \n \n"),
    ],
)
def test_text_that_is_not_there_is_refused(text: str, old: str) -> None:
    with pytest.raises(EditError, match="not found"):
        replace_once(text, old, "y")


@pytest.mark.parametrize(("old", "new"), [("", "x"), ("x", "x")])
def test_an_edit_that_says_nothing_is_refused(old: str, new: str) -> None:
    with pytest.raises(EditError):
        replace_once("x", old, new)


LINES = st.lists(st.text("ab \t", max_size=6), max_size=8)
ENDS = st.sampled_from(["\n", "\r\n"])


@given(st.text("ab \n\r\t"), st.text("ab \n\r\t"), st.text("ab \n\r\t"))
def test_an_edit_is_one_replacement_or_an_error(text: str, old: str, new: str) -> None:
    try:
        edited = replace_once(text, old, new)
    except EditError:
        return
    if edited.match is Match.EXACT and "\r" not in text:
        assert edited.text == text.replace(old, new, 1)
        assert text.count(old) == 1


@given(LINES, LINES, ENDS, st.text("xyz", min_size=1), st.text("XYZ\n", min_size=1))
def test_everything_around_an_edit_stays_as_it_is(
    before: list[str], after: list[str], end: str, old: str, new: str
) -> None:
    head = "".join(line + end for line in before)
    tail = "".join(end + line for line in after)
    edited = replace_once(head + old + tail, old, new)
    assert edited.text.startswith(head)
    assert edited.text.endswith(tail)
    middle = edited.text[len(head) : len(edited.text) - len(tail)]
    assert middle.replace("\r\n", "\n") == new
    if before or after:
        assert middle.count("\n") == (middle.count("\r\n") if end == "\r\n" else new.count("\n"))


@given(LINES, st.integers(0, 4), st.lists(st.integers(0, 3), min_size=1, max_size=5))
def test_a_block_with_another_indentation_keeps_the_files_shape(
    before: list[str], shift: int, depths: list[int]
) -> None:
    depths = [depth - min(depths) for depth in depths]
    block = [f"{'  ' * (depth + shift)}line{number}" for number, depth in enumerate(depths)]
    old = "\n".join(line[2 * shift :] for line in block)
    new = "\n".join(line[2 * shift :].replace("line", "LINE") for line in block)
    text = "\n".join([*before, *block, "end"])
    expected = "\n".join([*before, *(line.replace("line", "LINE") for line in block), "end"])
    assert replace_once(text, old, new).text == expected
