"""Arguments as models and gateways write them, and what they plainly mean."""

from __future__ import annotations

import json

import pytest

from paddock.runtime.models._arguments import is_whole, read_arguments

A, B = '{"command": "echo A"}', '{"command": "echo B"}'


@pytest.mark.parametrize(
    "pieces",
    [
        [A],
        [A[:5], A[5:]],
        ["{}", A],
        ["{}", A[:5], A[5:]],
        [A, A],
        [A[:5], A[5:], A],
        [A[:5], A[5:], json.dumps(A)],
        [json.dumps(A)],
        [A, "\n", A],
        ["null", A],
        [A[:5], A[:12], A],
        ["", A[:5], A],
    ],
)
def test_one_object_is_read_however_it_is_sent(pieces: list[str]) -> None:
    (text,) = read_arguments(pieces)
    assert json.loads(text) == json.loads(A)


@pytest.mark.parametrize("pieces", [[], [""], [" "], ["null"], ["{}"], ["{}", "{}"], ['""']])
def test_nothing_is_an_empty_object(pieces: list[str]) -> None:
    assert read_arguments(pieces) == ["{}"]


def test_raw_control_characters_in_a_string_are_read() -> None:
    (text,) = read_arguments(['{"content": "a\n\tb\u2028\x00"}'])
    assert json.loads(text) == {"content": "a\n\tb\u2028\x00"}


def test_two_objects_are_two_calls_and_never_one_text() -> None:
    assert [json.loads(text) for text in read_arguments([A, B, A])] == [
        {"command": "echo A"},
        {"command": "echo B"},
    ]


@pytest.mark.parametrize(
    "text", ['{"x": ', "[1]", "3", '"text"', A + "</tool_call>", A + '{"x', "not JSON", "[" * 9999]
)
def test_anything_else_stays_as_it_came(text: str) -> None:
    assert read_arguments([text]) == [text]


@pytest.mark.parametrize(("text", "whole"), [(A, True), ("{}", True), ("", False), (A[:-1], False)])
def test_a_text_that_was_cut_off_is_not_whole(text: str, whole: bool) -> None:
    assert is_whole(text) is whole
