"""Answers put together from the events of Anthropic's stream, whatever is missing from it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from paddock.runtime.core.model import ModelRequest, ModelResponse, TextDelta, ToolCall, Usage
from paddock.runtime.models._failure import BrokenStream, Failure
from paddock.runtime.models._message_answer import MessageBuilder
from paddock.runtime.models._sse import SSEParser
from paddock.runtime.models.scripted import ScriptedModel
from paddock.testing import _messages

TURN: dict[str, Any] = {
    "thinking": "Which one?",
    "text": "I look at both.",
    "tool_calls": [
        {"name": "bash", "arguments": {"command": "true"}, "id": "a"},
        {"name": "read", "arguments": {"path": "é.py"}, "id": "b"},
    ],
    "usage": {
        "input_tokens": 100, "output_tokens": 20, "cached_tokens": 60, "cache_write_tokens": 30,
        "reasoning_tokens": 7,
    },
}  # fmt: skip
START = {"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1}}}
TEXT = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
CALL = {
    "type": "content_block_start",
    "index": 1,
    "content_block": {"type": "tool_use", "id": "a", "name": "bash", "input": {}},
}


def delta(index: int, **fields: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": fields}


def end(reason: str | None, **details: Any) -> dict[str, Any]:
    told = {"stop_reason": reason, **details}
    return {"type": "message_delta", "delta": told, "usage": {"output_tokens": 9}}


def stream_of(turn: dict[str, Any]) -> bytes:
    request = ModelRequest(model="m", messages=[])
    scripted = ScriptedModel([turn]).turn(request)
    return b"".join(_messages.stream(scripted, {"model": "m"}, 1))


def read(*events: dict[str, Any]) -> tuple[str, ModelResponse]:
    builder = MessageBuilder()
    text = "".join(builder.add(json.dumps(event).encode()) for event in events)
    return text, builder.response()


def test_a_whole_answer_has_its_text_its_calls_and_its_usage() -> None:
    builder = MessageBuilder()
    text = "".join(map(builder.add, SSEParser().feed(stream_of(TURN))))
    response = builder.response()
    assert builder.done
    assert text == response.text == "I look at both."
    assert response.tool_calls == (
        ToolCall(id="a", name="bash", arguments='{"command": "true"}'),
        ToolCall(id="b", name="read", arguments='{"path": "\\u00e9.py"}'),
    )
    assert response.usage == Usage(
        input_tokens=100, output_tokens=20, cached_tokens=60, cache_write_tokens=30,
        reasoning_tokens=7,
    )  # fmt: skip
    assert response.finish_reason == "tool_calls"
    assert [block["type"] for block in builder.blocks] == [
        "thinking", "text", "tool_use", "tool_use",
    ]  # fmt: skip


@pytest.mark.rows("C41")
def test_a_stream_that_ends_at_any_byte_never_gives_out_a_part_of_a_call() -> None:
    stream = stream_of(TURN)
    finished = stream.index(b'"stop_reason":"tool_use"')
    whole = stream.index(b"\n\n", finished) + 2
    for length in range(len(stream)):
        builder = MessageBuilder()
        for event in SSEParser().feed(stream[:length]):
            builder.add(event)
        if length < whole:
            with pytest.raises(BrokenStream):
                builder.response()
        else:
            assert [call.id for call in builder.response().tool_calls] == ["a", "b"]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "pause_turn"),
    ],
)
def test_why_it_stopped_is_told_in_the_words_of_chat(reason: str, told: str) -> None:
    assert read(START, end(reason))[1].finish_reason == told


@pytest.mark.parametrize("reason", ["max_tokens", "model_context_window_exceeded"])
@pytest.mark.parametrize("arguments", ["", '{"command": "rm -rf /tm'])
def test_a_call_that_the_limit_cut_off_stays_cut(reason: str, arguments: str) -> None:
    piece = delta(1, type="input_json_delta", partial_json=arguments)
    response = read(START, CALL, piece, end(reason))[1]
    assert response.tool_calls == (ToolCall(id="a", name="bash", arguments=arguments),)
    assert response.finish_reason == "length"


def test_a_whole_call_before_the_limit_is_kept() -> None:
    piece = delta(1, type="input_json_delta", partial_json='{"command": "true"}')
    assert len(read(START, CALL, piece, end("max_tokens"))[1].tool_calls) == 1


def test_arguments_that_are_malformed_pass_through_as_sent() -> None:
    piece = delta(1, type="input_json_delta", partial_json='{"command": ')
    (call,) = read(START, CALL, piece, end("tool_use"))[1].tool_calls
    assert call.arguments == '{"command": '


@pytest.mark.parametrize(("given", "told"), [({}, "{}"), ({"n": 1}, '{"n": 1}')])
def test_arguments_may_be_none_or_come_with_the_beginning(given: object, told: str) -> None:
    call = {**CALL, "content_block": {**CALL["content_block"], "input": given}}  # type: ignore[dict-item]
    assert read(START, call, end("tool_use"))[1].tool_calls[0].arguments == told


def test_a_refusal_says_why_and_none_of_its_calls_is_acted_on() -> None:
    piece = delta(1, type="input_json_delta", partial_json="{}")
    details = {"type": "refusal", "category": "cyber", "explanation": "It could do harm."}
    text, response = read(START, CALL, piece, end("refusal", stop_details=details))
    assert text == response.text == "It could do harm."
    assert response.finish_reason == "content_filter"
    assert response.tool_calls == ()


def test_a_refusal_after_some_text_stands_below_it_and_needs_no_explanation() -> None:
    said = delta(0, type="text_delta", text="First,")
    text, response = read(START, TEXT, said, end("refusal", stop_details=None))
    assert text == response.text
    assert text.startswith("First,\n\n")
    assert "refused" in text


def test_what_is_told_last_of_the_usage_counts_and_the_rest_stays() -> None:
    _, response = read(START, end("end_turn"))
    assert response.usage == Usage(input_tokens=5, output_tokens=9)


def test_unknown_events_blocks_and_deltas_are_passed_over() -> None:
    invented = {"type": "content_block_start", "index": 3, "content_block": {"type": "new"}}
    text, response = read(
        START,
        {"type": "ping"},
        {"type": "something_new"},
        TEXT,
        delta(0, type="citations_delta", citation="x"),
        delta(0, type="text_delta", text="Yes."),
        invented,
        delta(3, type="new_delta", data="x"),
        {"type": "content_block_stop", "index": 0},
        end("end_turn"),
    )
    assert (text, response.text) == ("Yes.", "Yes.")


@pytest.mark.parametrize(
    ("kind", "status", "is_passing"),
    [
        ("overloaded_error", 529, True),
        ("api_error", 500, True),
        ("rate_limit_error", 429, True),
        ("invalid_request_error", 400, False),
    ],
)
def test_an_error_in_the_stream_is_that_of_the_same_status(
    kind: str, status: int, is_passing: bool
) -> None:
    with pytest.raises(Failure, match="Busy") as caught:
        read(START, {"type": "error", "error": {"type": kind, "message": "Busy."}})
    assert (caught.value.status, caught.value.is_passing) == (status, is_passing)


def test_a_message_in_one_piece_is_understood() -> None:
    content = [
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "a", "name": "bash", "input": {"n": 1}},
    ]
    usage = {"input_tokens": 5, "output_tokens": 9}
    whole = {"type": "message", "content": content, "stop_reason": "tool_use", "usage": usage}
    text, response = read(whole)
    assert text == response.text == "I look."
    assert response.tool_calls == (ToolCall(id="a", name="bash", arguments='{"n": 1}'),)
    assert response.usage == Usage(input_tokens=5, output_tokens=9)


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b": ping"])
def test_what_is_no_object_is_ignored(data: bytes) -> None:
    assert MessageBuilder().add(data) == ""


@pytest.mark.parametrize(
    "data",
    [
        b'{"type', b'{"type": "message_start"}', b'{"type": "message_delta"}',
        b'{"type": "content_block_delta", "index": 7, "delta": {"type": "text_delta"}}',
        b'{"type": "content_block_start", "index": 0, "content_block": null}',
        b'{"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use"}}',
    ],
)  # fmt: skip
def test_what_is_no_event_breaks_the_stream(data: bytes) -> None:
    with pytest.raises(BrokenStream, match="not an event of a message"):
        MessageBuilder().add(data)


def test_a_piece_that_is_no_text_breaks_the_stream() -> None:
    with pytest.raises(BrokenStream, match="not an event"):
        read(START, TEXT, {"type": "content_block_delta", "index": 0, "delta": {
            "type": "text_delta", "text": 7,
        }})  # fmt: skip


@pytest.mark.parametrize("beginning", ["Yes", None, 7])
def test_a_text_may_begin_with_its_block(beginning: object) -> None:
    block = {"type": "text", "text": beginning, "citations": None}
    begun = {"type": "content_block_start", "index": 0, "content_block": block}
    text, response = read(START, begun, delta(0, type="text_delta", text="."), end("end_turn"))
    assert text == response.text == ("Yes." if beginning == "Yes" else ".")


def test_a_refusal_that_is_told_twice_is_one() -> None:
    text, response = read(START, end("refusal"), end("refusal"))
    assert text == response.text


def test_a_text_delta_is_all_that_is_shown_of_thinking_and_text() -> None:
    builder = MessageBuilder()
    shown = [TextDelta(text=text) for text in map(builder.add, SSEParser().feed(stream_of(TURN)))]
    assert "".join(delta.text for delta in shown) == "I look at both."
