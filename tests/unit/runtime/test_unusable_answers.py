"""No empty, half, filtered or failed answer is the answer to a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from paddock.runtime.core.loop import MAX_UNUSABLE
from paddock.runtime.core.model import ModelResponse, ToolCall, Usage
from tests.unit.runtime.answering import RawModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.runtime.core.model import Message
    from tests.unit.runtime.conftest import OpenSession

CALL = ToolCall(id="a", name="echo", arguments='{"text": "x"}')
CUT_CALL = ToolCall(id="b", name="echo", arguments='{"text": "y')
DONE = ModelResponse(text="Done.")


def echo(text: str = "") -> str:
    return f"echo: {text}"


def unanswered(reason: str, **fields: Any) -> ModelResponse:
    return ModelResponse(finish_reason=reason, usage=Usage(output_tokens=1), **fields)


UNUSABLE = [
    unanswered("stop"),
    unanswered("stop", text=" \n"),
    unanswered("stop", opaque={"message": {"reasoning_content": "hm"}}),
    unanswered("length"),
    unanswered("tool_calls"),
    unanswered("tool_calls", text="I call a tool."),
    unanswered("function_call_filter: MALFORMED_FUNCTION_CALL"),
    unanswered("MALFORMED_FUNCTION_CALL", text="I call"),
    unanswered("network_error", text="It is"),
    unanswered("error", tool_calls=(CALL,)),
]


@pytest.mark.parametrize("response", UNUSABLE, ids=lambda each: each.finish_reason)
async def test_an_unusable_answer_is_asked_for_again_and_is_not_in_the_history(
    open_session: OpenSession, response: ModelResponse
) -> None:
    model = RawModel(response, DONE)
    session = open_session([], echo, client=model)
    result = await session.run("Go.")
    assert (result.status, result.text) == ("completed", "Done.")
    assert [event.type for event in result.events].count("retry") == 1
    assert [message["content"] for message in session.state.messages] == ["Go.", "Done."]
    assert model.requests[0].messages == model.requests[1].messages
    assert result.usage["output_tokens"] == 1, "it was paid for"


@pytest.mark.parametrize("response", UNUSABLE, ids=lambda each: each.finish_reason)
async def test_a_model_that_gives_only_unusable_answers_is_an_error_that_says_why(
    open_session: OpenSession, response: ModelResponse
) -> None:
    model = RawModel(*[response] * 9)
    result = await open_session([], echo, client=model).run("Go.")
    assert result.status == "error"
    assert response.finish_reason in str(result.reason)
    assert len(model.requests) == MAX_UNUSABLE + 1


async def test_unusable_answers_count_as_turns(open_session: OpenSession) -> None:
    result = await open_session([], client=RawModel(unanswered("stop"))).run("Go.", max_turns=1)
    assert result.status == "max_turns"


@pytest.mark.parametrize("reason", ["content_filter", "SAFETY", "refusal"])
@pytest.mark.parametrize("fields", [{}, {"text": "I would"}, {"tool_calls": (CALL,)}])
async def test_a_filtered_answer_is_an_error_that_names_the_filter(
    open_session: OpenSession, reason: str, fields: dict[str, Any]
) -> None:
    model = RawModel(unanswered(reason, **fields))
    session = open_session([], echo, client=model)
    result = await session.run("Go.")
    assert result.status == "error"
    assert "filtered" in str(result.reason)
    assert reason in str(result.reason)
    assert not [event for event in result.events if event.type == "tool_start"]


@pytest.mark.parametrize("reason", ["length", "MAX_TOKENS"])
async def test_a_text_that_is_cut_off_shows_in_the_status_and_in_an_event(
    open_session: OpenSession, reason: str
) -> None:
    session = open_session([], client=RawModel(unanswered(reason, text="It begins"), DONE))
    result = await session.run("Go.")
    assert (result.status, result.text) == ("truncated", "It begins")
    assert "truncated" in [event.type for event in result.events]
    assert (await session.resume({})).text == "Done.", "it can be continued"


@pytest.mark.parametrize("arguments", [CUT_CALL.arguments, ""])
async def test_a_call_that_is_cut_off_is_told_so_and_the_run_continues(
    open_session: OpenSession, check_history: Any, arguments: str
) -> None:
    cut = ToolCall(id="b", name="echo", arguments=arguments)
    model = RawModel(unanswered("length", tool_calls=(CALL, cut)), DONE)
    session = open_session([], echo, client=model)
    assert (await session.run("Go.")).status == "completed"
    check_history(session.state.messages)
    whole, cut_result = _results(session.state.messages)
    assert whole == "echo: x"
    assert "limit of its length" in cut_result


def _results(messages: Sequence[Message]) -> list[str]:
    return [message["content"] for message in messages if message["role"] == "tool"]
