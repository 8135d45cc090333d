"""Chunks of every dialect become one answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from paddock.runtime.core.model import ModelResponse, ToolCall, Usage
from paddock.runtime.models._answer import AnswerBuilder
from paddock.runtime.models._failure import BrokenStream, Failure


def chunk(finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def call(index: int | None = None, call_id: str | None = None, **function: Any) -> dict[str, Any]:
    content: dict[str, Any] = {"function": function}
    if index is not None:
        content["index"] = index
    if call_id is not None:
        content["id"] = call_id
    return chunk(tool_calls=[content])


def built(*chunks: object) -> ModelResponse:
    builder = AnswerBuilder()
    for content in chunks:
        builder.add(json.dumps(content).encode())
    return builder.response()


STOP = chunk("stop")
CALLS = chunk("tool_calls")
TWO_CALLS = (
    ToolCall(id="a", name="bash", arguments='{"x":1}'),
    ToolCall(id="b", name="read", arguments='{"y":2}'),
)


@pytest.mark.parametrize(
    "deltas",
    [
        pytest.param(
            [
                call(0, "a", name="bash", arguments=""),
                call(0, arguments='{"x"'),
                call(0, arguments=":1}"),
                call(1, "b", name="read", arguments=""),
                call(1, arguments='{"y":2}'),
            ],
            id="in pieces",
        ),
        pytest.param(
            [
                call(0, "a", name="bash", arguments='{"x"'),
                call(1, "b", name="read", arguments='{"y"'),
                call(0, arguments=":1}"),
                call(1, arguments=":2}"),
            ],
            id="interleaved",
        ),
        pytest.param(
            [
                call(None, "a", name="bash", arguments='{"x":1}'),
                call(None, "b", name="read", arguments='{"y":2}'),
            ],
            id="whole, without index",
        ),
        pytest.param(
            [
                call(0, "a", name="bash", arguments='{"x":1}'),
                call(0, "b", name="read", arguments='{"y":2}'),
            ],
            id="whole, always index 0",
        ),
        pytest.param(
            [
                call(None, "a", name="bash", arguments=""),
                call(None, arguments='{"x":1}'),
                call(None, "b", name="read", arguments=""),
                call(None, arguments='{"y":2}'),
            ],
            id="in pieces, without index",
        ),
        pytest.param(
            [
                call(0, name="bash", arguments='{"x"'),
                call(0, "a", arguments=":1}"),
                call(1, name="read", arguments='{"y":2}'),
                call(1, "b"),
            ],
            id="ids late",
        ),
        pytest.param(
            [
                call(0, "a", name="bash", arguments='{"x"'),
                call(0, "a", name="bash", arguments=":1}"),
                call(1, "b", name="read", arguments='{"y":2}'),
            ],
            id="id and name repeated",
        ),
        pytest.param(
            [
                call(0, "a", name="ba", arguments=""),
                call(0, "", name="sh", arguments='{"x":1}'),
                call(1, "b", name="read", arguments='{"y":2}'),
            ],
            id="name in pieces",
        ),
    ],
)
def test_tool_calls_are_the_same_however_they_are_cut(deltas: list[dict[str, Any]]) -> None:
    assert built(*deltas, CALLS).tool_calls == TWO_CALLS


def test_calls_without_any_id_get_different_ones() -> None:
    calls = built(call(name="a", arguments="{}"), call(name="b", arguments="{}"), CALLS).tool_calls
    assert [one.name for one in calls] == ["a", "b"]
    assert calls[0].id
    assert calls[1].id
    assert calls[0].id != calls[1].id


def test_arguments_given_as_an_object_become_json_text() -> None:
    (one,) = built(call(0, "a", name="bash", arguments={"x": 1}), CALLS).tool_calls
    assert json.loads(one.arguments) == {"x": 1}


def test_no_arguments_at_all_are_an_empty_object() -> None:
    (one,) = built(call(0, "a", name="list"), CALLS).tool_calls
    assert one.arguments == "{}"


def test_malformed_arguments_of_a_finished_call_are_given_out_as_sent() -> None:
    (one,) = built(call(0, "a", name="bash", arguments='{"x": '), CALLS).tool_calls
    assert one.arguments == '{"x": '


@pytest.mark.parametrize("arguments", ["", '{"x": "rm -rf /t'])
def test_a_call_that_the_service_cut_off_stays_cut(arguments: str) -> None:
    first = call(0, "a", name="bash", arguments='{"x":1}')
    cut = call(1, "b", name="bash", arguments=arguments)
    answer = built(first, cut, chunk("length"))
    assert [one.arguments for one in answer.tool_calls] == ['{"x":1}', arguments]
    assert answer.finish_reason == "length"


def test_a_call_without_a_name_is_a_broken_stream() -> None:
    with pytest.raises(BrokenStream, match="without a name"):
        built(call(0, "a", arguments="{}"), CALLS)


def test_text_comes_from_strings_parts_and_refusals() -> None:
    answer = built(
        chunk(role="assistant", content=None),
        chunk(content="a"),
        chunk(content=[{"type": "text", "text": "b"}, {"type": "thinking"}, 7]),
        chunk(refusal="c"),
        STOP,
    )
    assert (answer.text, answer.finish_reason) == ("abc", "refusal")


@pytest.mark.parametrize("cost", [float("nan"), float("inf"), -1, True, "much"])
def test_a_cost_that_no_budget_can_be_compared_with_is_not_known(cost: object) -> None:
    answer = built(chunk(content="a"), STOP, {"choices": [], "usage": {"cost": cost}})
    assert (answer.usage.cost_usd, answer.is_priced) == (0.0, False)


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": "7", "completion_tokens": None},
        {"prompt_tokens": 7.0, "prompt_tokens_details": "none", "completion_tokens": -1},
        {"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": {}}},
    ],
)
def test_counts_of_odd_types_are_read_as_far_as_they_are_numbers(usage: Any) -> None:
    answer = built(chunk(content="a"), STOP, {"choices": [], "usage": usage})
    assert answer.usage == Usage(input_tokens=7)


def test_usage_that_is_no_object_and_a_reason_that_is_no_text_are_passed_over() -> None:
    answer = built({**chunk(content="a"), "usage": "some"}, chunk(1))  # type: ignore[arg-type]
    assert (answer.text, answer.finish_reason, answer.usage) == ("a", "1", Usage())


def test_an_error_without_a_reason_may_pass() -> None:
    with pytest.raises(Failure, match="without a reason") as raised:
        built(chunk("error"))
    assert raised.value.is_passing


def test_empty_and_unknown_things_are_passed_over() -> None:
    answer = built(
        {"choices": []},
        {},
        {"choices": None, "usage": None, "brand_new": {"a": 1}},
        {"choices": [{"delta": None}]},
        chunk(content="a", reasoning_content="hm", tool_calls=None),
        STOP,
    )
    assert answer == ModelResponse(text="a", opaque={"message": {"reasoning_content": "hm"}})


def test_usage_that_comes_more_than_once_counts_once() -> None:
    totals = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    running = {"prompt_tokens": 10, "completion_tokens": 1}
    answer = built({**chunk(content="a"), "usage": running}, {**STOP, "usage": totals})
    expected = Usage(input_tokens=10, output_tokens=5, cached_tokens=8, reasoning_tokens=2)
    assert answer.usage == expected


def test_missing_details_of_the_usage_are_nought() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": None, "prompt_tokens_details": None}
    assert built(STOP, {"choices": [], "usage": usage}).usage == Usage(input_tokens=3)


def test_an_answer_that_was_not_finished_is_a_broken_stream() -> None:
    with pytest.raises(BrokenStream, match="before the answer was finished"):
        built(call(0, "a", name="bash", arguments="{}"))


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b'{"choices": 7}',
        b'{"choices": [3]}',
        b'{"choices": {"a": 1}}',
        b'{"choices": [{"delta": {"tool_calls": [4]}}]}',
    ],
)
def test_what_is_not_a_chunk_is_a_broken_stream(data: bytes) -> None:
    with pytest.raises(BrokenStream, match="not a chat completion chunk"):
        AnswerBuilder().add(data)
