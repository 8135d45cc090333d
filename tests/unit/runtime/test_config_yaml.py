"""The YAML of configuration files: what is read, what is refused, and that nothing is lost."""

from __future__ import annotations

import contextlib
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.errors import ConfigError
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.core.yamltext import MAX_BYTES, decode, dump_yaml, read_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

PATIENCE = 60.0
"""Seconds within which the worst file has to be refused, on a busy machine."""


def read(text: str) -> Any:
    return read_yaml(text, source="a.yaml").data


@pytest.mark.rows("C52")
@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("no", "no"),
        ("Yes", "Yes"),
        ("off", "off"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("010", 10),
        ("0o17", 15),
        ("0xff", 255),
        ("+7", 7),
        ("1e3", 1000.0),
        ("1.5E-2", 0.015),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2001-01-01", "2001-01-01"),
        ("1.2.3", "1.2.3"),
        ("=", "="),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("!!float 1", 1.0),
        ("!!int 0x10", 16),
        ("!!float " + "9" * 400, float("inf")),
        ("!!null ~", None),
        ("${HOME}", "${HOME}"),
    ],
)
def test_a_scalar_means_what_yaml_1_2_says(written: str, meant: object) -> None:
    value = read(f"a: {written}\n")["a"]
    assert (value, type(value)) == (meant, type(meant))


@pytest.mark.rows("C52")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x: !!python/object/apply:os.system [ls]\n", "line 1: a tag that is not read"),
        ("x: !!python/name:os.system\n", "line 1: a tag"),
        ("x: !!binary aGk=\n", "line 1: a tag"),
        ("x: !!set {a}\n", "line 1: a tag"),
        ("x: !!int one\n", "line 1: a tag"),
        ("x: !!int true\n", "line 1: a tag"),
        ("x: !!float 0x10\n", "line 1: a tag"),
        ("x: !mine 1\n", "line 1: a tag"),
        ("x: !!null 1\n", "line 1: a tag"),
        ("x: !!bool yes\n", "line 1: a tag"),
        ("x: !!omap [a: 1]\n", "line 1: a tag"),
        ("a: 1\nb: {c: &b [x, *b]}\n", "line 2: nested more than 64 deep"),
        ("a: 1\nb: 2\na: 3\n", "line 3: 'a' is given twice"),
        ("a:\n  b: 1\n  'b': 2\n", "line 3: 'b' is given twice"),
        ("a: &a {b: 1}\nc:\n  <<: *a\n", "line 3: merge keys"),
        ("? [a, b]\n: 1\n", "line 1: a key has to be text"),
        ("a: &a [1, *a]\n", "line 1: nested more than 64 deep, counting aliases"),
        ("a: *b\n", "line 1: not valid YAML: an alias"),
        ("a: 1\n---\nb: 2\n", "line 2: not valid YAML: but found another document"),
        ("a: 1\nb: [\n", "line"),
        ("a: 'b\n", "line"),
        ("a: \x07\n", "not valid YAML"),
        ("a: " + "9" * 5000 + "\n", "line 1: a number with more than"),
        ("a: !!int " + "9" * 5000 + "\n", "line 1: a number with more than"),
        ("[" * 1_000_000, "nested more than"),
        ("{a: " * 200_000, "nested more than"),
        ("- " * 400_000, "nested more than"),
        ("[" + "x," * 400_000 + "]", "more than 100000 values"),
    ],
)
def test_what_is_no_plain_data_is_refused_with_its_line_and_soon(text: str, told: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ConfigError, match=told):
        read(text)
    assert time.monotonic() - begun < PATIENCE


@pytest.mark.rows("C52")
def nested(levels: int, inmost: str) -> str:
    return "[" * levels + inmost + "]" * levels


@pytest.mark.parametrize("levels", [62, 63])
def test_what_aliases_unfold_to_is_as_deep_as_if_it_was_written_out(levels: int) -> None:
    below = levels - 20 - 20
    texts = [
        f"a: {nested(levels, 'x')}",
        f"a: &a {nested(20, 'x')}\nb: {nested(levels - 20, '*a')}",
        f"a: &a {nested(20, 'x')}\nb: &b {nested(20, '*a')}\nc: {nested(below, '*b')}",
        f"a: &a [{nested(20, 'x')}, y]\nb: {nested(levels - 21, '*a')}",
    ]
    for text in texts:
        assert read_yaml(text, source="c.yaml").data
        deeper = text.replace("x", nested(64 - levels, "x"))
        with pytest.raises(ConfigError, match="nested more than 64 deep"):
            read_yaml(deeper, source="c.yaml")


def test_what_aliases_unfold_to_is_bounded() -> None:
    lines = ["a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]")
    with pytest.raises(ConfigError, match="line 1: more than 100000 values, counting what aliases"):
        read("\n".join(lines))
    assert read("a: &a {b: 1}\nc: [*a, *a]\n") == {"a": {"b": 1}, "c": [{"b": 1}, {"b": 1}]}


@pytest.mark.rows("C52")
@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\xef\xbb\xbfa: 1\n", "byte order mark"),
        ("a: 1\n".encode("utf-16"), "byte order mark"),
        ("a: 1\nb: \xe9\n".encode("latin-1"), "a.yaml, line 2: this is not UTF-8"),
        (b"x" * (MAX_BYTES + 1), "larger than 1048576 bytes"),
    ],
)
def test_a_file_that_is_no_plain_utf_8_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        decode(data, source="a.yaml")


def test_lines_are_counted_from_where_the_text_begins() -> None:
    document = read_yaml("a: 1\nb: 2\n", source="a.md", first_line=10)
    assert document.lines == {"a": 10, "b": 11}
    for bad in ("a: 1\na: 2\n", "a: 1\n]"):
        with pytest.raises(ConfigError, match=r"a\.md, line 11"):
            read_yaml(bad, source="a.md", first_line=10)


def test_a_number_is_kept_as_it_is_written_where_text_is_meant() -> None:
    document = read_yaml(
        "vars: {version: 1.10, flag: true, n: 010, none: }\nother: {version: 1.10}\n",
        source="a.yaml",
        texts=[("vars", "*")],
    )
    assert document.data["vars"] == {"version": "1.10", "flag": "true", "n": "010", "none": None}
    assert document.data["other"] == {"version": 1.1}


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
TRICKY = st.sampled_from(
    ["no", "1e3", "0o7", "010", "~", "", " ", "\n", " \n x", "a\n\n b\n", "<<", "*a", "\u2028\n",
     "- a\n-", "#", "a: b", "\x85", "\ufeff", "%", "---", "...", "\r\n", "!!str", "'", '"', "|"]
)  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT | TRICKY
PLAIN = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | TRICKY, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.rows("C52", "S-5")
@given(st.dictionaries(TEXT | TRICKY, PLAIN, max_size=5))
def test_plain_data_is_read_back_as_it_was_written(data: Mapping[str, Any]) -> None:
    again = read(dump_yaml(data))
    assert again == data
    assert repr(again) == repr(data), "and with the types it had"


@pytest.mark.rows("C52")
@given(st.text(alphabet="ab: -?[]{}&*!|>'\"#%@\n\t,<~0", max_size=60))
def test_any_text_is_data_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        read(text)


FIELDS = ("system_prompt", "model", "provider", "profile", "backend", "working_dir", "base_url",
          "service_tier", "reasoning_effort")  # fmt: skip
WORDS = (TEXT | TRICKY).filter(bool)
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(FIELDS, WORDS),
        "wire": st.sampled_from(["chat", "responses"]),
        "vars": st.dictionaries(TEXT | TRICKY, TEXT | TRICKY, max_size=3),
        "response_format": st.dictionaries(TEXT, PLAIN, min_size=1, max_size=3),
        "databases": st.dictionaries(TEXT, PLAIN, min_size=1, max_size=3),
        "auto_approve": st.booleans(),
        "extras": st.dictionaries(TEXT | TRICKY, PLAIN, max_size=3),
    },
)


@pytest.mark.rows("S-4", "S-5", "C52")
@given(CONFIGS)
def test_any_config_is_read_back_as_it_was_written(fields: Mapping[str, Any]) -> None:
    config = AgentConfig(**fields)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an extra may look like a field
        assert AgentConfig.from_yaml(config.to_yaml()) == config
        assert AgentConfig.from_yaml(config.to_yaml(partial=True)) == config
