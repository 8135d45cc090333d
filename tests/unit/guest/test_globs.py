"""Glob patterns against names, with a slow and simple matcher to compare with."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.backends.guest.inside.globs import alternatives, compiled, names, widened


def matches(pattern: str, path: str) -> bool:
    return compiled(pattern).fullmatch(path) is not None


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("*.py", ["a.py", "d/e/a.py", ".py"], ["a.pyc", "a.py/b"]),
        ("src/*.py", ["src/a.py"], ["a.py", "src/d/a.py", "x/src/a.py"]),
        ("./src/*.py", ["src/a.py"], ["x/src/a.py"]),
        ("/src/*.py", ["src/a.py"], ["x/src/a.py"]),
        ("**/a", ["a", "d/a", "d/e/a"], ["ba", "a/b"]),
        ("d/**", ["d/a", "d/e/a"], ["d", "dd/a"]),
        ("d/**/a", ["d/a", "d/e/a", "d/e/f/a"], ["a", "da", "d/e/ba"]),
        ("a**b", ["ab", "axxb", "d/axb"], ["a/b"]),
        ("?.txt", ["é.txt", "\udcff.txt"], [".txt", "ab.txt"]),
        ("[ab].c", ["a.c", "b.c"], ["c.c", "[ab].c"]),
        ("[!ab].c", ["c.c"], ["a.c", "b.c"]),
        ("d/[!x]", ["d/y"], ["d/x"]),
        ("d[!x]e", ["dye"], ["d/e"]),
        ("[]a]", ["]", "a"], ["b"]),
        ("[!]a]", ["b"], ["]", "a"]),
        ("[a-c]", ["b"], ["-", "d"]),
        ("[c-a]", [], ["a", "b", "c", "-"]),
        ("[?--]", [], ["?", "-"]),
        ("[+--]", ["+", ",", "-"], ["."]),
        ("[--0]", ["-", ".", "0"], [",", "1"]),
        ("[a-]", ["a", "-"], ["b"]),
        ("[&&~~||]", ["&", "~", "|"], ["a"]),
        ("[a", ["[a"], ["a"]),
        ("[\\d]", ["\\", "d"], ["1"]),
        ("*.{py,js}", ["a.py", "d/a.js"], ["a.ts", "a.{py,js}"]),
        ("{a,b{c,d}}/x", ["a/x", "bc/x", "bd/x"], ["b/x"]),
        ("{src,lib}/**/*.c", ["src/a.c", "lib/d/a.c"], ["a.c"]),
        ("a{,b}", ["a", "ab"], ["b"]),
        ("{a", ["{a"], ["a"]),
        ("a}", ["a}"], ["a"]),
        ("\\*", ["*"], ["a"]),
        ("\\{a,b\\}", ["{a,b}"], ["a", "b"]),
        ("new\n*", ["new\nline"], ["newline"]),
        ("(a|b)+", ["(a|b)+"], ["a"]),
        ("a/", [], ["a", "a/b"]),
        ("", [], ["a"]),
    ],
)
def test_a_pattern_matches_what_it_should_and_nothing_else(
    pattern: str, matching: list[str], others: list[str]
) -> None:
    assert [path for path in [*matching, *others] if matches(pattern, path)] == matching


def naive_name(pattern: str, name: str) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "*":
        return naive_name(pattern[1:], name) or bool(name and naive_name(pattern, name[1:]))
    return bool(name) and pattern[0] in ("?", name[0]) and naive_name(pattern[1:], name[1:])


def naive_path(pattern: list[str], path: list[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        rest = pattern[1:]
        if not rest:
            return bool(path)
        return naive_path(rest, path) or bool(path and naive_path(pattern, path[1:]))
    return bool(path) and naive_name(pattern[0], path[0]) and naive_path(pattern[1:], path[1:])


NAME = st.text("ab", min_size=1, max_size=5)
PATTERN_NAME = st.one_of(st.just("**"), st.text("ab*?", min_size=1, max_size=6))


@given(
    pattern=st.lists(PATTERN_NAME, min_size=1, max_size=5),
    path=st.lists(NAME, min_size=1, max_size=6),
)
def test_stars_match_what_trying_everything_matches(pattern: list[str], path: list[str]) -> None:
    parts = names("/".join(pattern))
    assert matches("/".join(pattern), "/".join(path)) == naive_path(parts, path)


@given(pattern=st.text("ab*?[]!{},\\/ -"), path=st.lists(NAME, min_size=1, max_size=4))
def test_any_text_is_a_pattern_and_its_simpler_ones_match_all_that_it_does(
    pattern: str, path: list[str]
) -> None:
    text = "/".join(path)
    if matches(pattern, text):
        assert any(matches(wide, text) for wide in widened(pattern))


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 30 + "b", "a" * 255),
        ("**/a/" * 30 + "b", "a/" * 1000 + "a"),
        ("**/*a*a/" * 20 + "b", ("a" * 50 + "/") * 40 + "c"),
        ("?*" * 60 + "b", "a" * 255),
    ],
)
def test_no_pattern_is_slow(pattern: str, path: str) -> None:
    started = time.process_time()
    assert not matches(pattern, path)
    assert time.process_time() - started < 0.5


def test_alternatives_are_bounded() -> None:
    assert len(alternatives("{a,b}" * 8)) == 256
    with pytest.raises(ValueError, match="alternatives"):
        compiled("{a,b}" * 9)
    with pytest.raises(ValueError, match="alternatives"):
        compiled("{a,b}" * 1000)
