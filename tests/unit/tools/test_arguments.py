"""A model's arguments, mended or refused."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.runtime.tools.arguments import ArgumentError, fit_arguments

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "count": {"type": "integer", "minimum": 1, "maximum": 10},
        "ratio": {"type": "number"},
        "flag": {"type": "boolean"},
        "names": {"type": "array"},
        "map": {"type": "object"},
        "mode": {"type": "string", "enum": ["a", "b"]},
        "maybe": {"type": ["integer", "null"]},
        "free": {},
    },
    "required": ["text"],
}


@pytest.mark.rows("S-9")
@pytest.mark.parametrize(
    ("name", "given_value", "fitted"),
    [
        ("flag", "true", True), ("flag", "1", True), ("flag", "Yes", True), ("flag", 1, True),
        ("flag", "false", False), ("flag", "no", False), ("flag", 0, False), ("flag", True, True),
        ("count", "5", 5), ("count", 5.0, 5), ("count", " 7 ", 7), ("ratio", "1.5", 1.5),
        ("ratio", 2, 2), ("names", '["a"]', ["a"]), ("map", '{"a": 1}', {"a": 1}),
        ("maybe", None, None), ("maybe", "3", 3), ("free", [1], [1]), ("mode", "b", "b"),
    ],
)  # fmt: skip
def test_values_become_what_the_schema_asks_for(
    name: str, given_value: object, fitted: object
) -> None:
    result = fit_arguments(SCHEMA, {"text": "x", name: given_value})
    assert result[name] == fitted
    assert type(result[name]) is type(fitted)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "missing required argument 'text'"),
        ({"text": 5}, "argument 'text' must be a string, not 5"),
        ({"text": None}, "argument 'text' must be a string, not null"),
        ({"text": "x", "txet": 1}, "unknown argument 'txet' (known: text, count, ratio, "),
        ({"text": "x", "count": "many"}, "argument 'count' must be an integer, not \"many\""),
        ({"text": "x", "count": 1.5}, "argument 'count' must be an integer, not 1.5"),
        ({"text": "x", "count": True}, "argument 'count' must be an integer, not true"),
        ({"text": "x", "count": 0}, "argument 'count' must be at least 1"),
        ({"text": "x", "count": "11"}, "argument 'count' must be at most 10"),
        ({"text": "x", "flag": "perhaps"}, "argument 'flag' must be a boolean"),
        ({"text": "x", "names": "a"}, "argument 'names' must be an array"),
        ({"text": "x", "names": '{"a": 1}'}, "argument 'names' must be an array"),
        ({"text": "x", "mode": "c"}, "argument 'mode' must be one of a, b, not \"c\""),
        ({"text": "x", "maybe": "x"}, "argument 'maybe' must be an integer or null"),
        ([], "arguments must be an object, not []"),
        ("x" * 200, 'arguments must be an object, not "xxx'),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(arguments: object, problem: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        fit_arguments(SCHEMA, arguments)
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 300


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ArgumentError) as caught:
        fit_arguments(SCHEMA, {"count": "x", "other": 1})
    assert len(caught.value.problems) == 3


def test_null_for_an_optional_argument_is_as_if_it_were_absent() -> None:
    assert fit_arguments(SCHEMA, {"text": "x", "count": None}) == {"text": "x"}


def test_a_schema_without_properties_takes_anything() -> None:
    assert fit_arguments({"type": "object"}, {"a": 1}) == {"a": 1}


def test_additional_properties_are_taken_when_the_schema_says_so() -> None:
    assert fit_arguments({**SCHEMA, "additionalProperties": True}, {"text": "x", "z": 1})["z"] == 1


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*SCHEMA["properties"], "other"]), _JSON))
def test_whatever_a_model_sends_fits_or_is_an_argument_error(arguments: dict[str, Any]) -> None:
    with contextlib.suppress(ArgumentError):
        fitted = fit_arguments(SCHEMA, arguments)
        assert "nan" in repr(fitted) or fit_arguments(SCHEMA, fitted) == fitted
