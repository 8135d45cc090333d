"""Answers in one piece, of services that do not stream tool calls, over a real socket."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParams  # noqa: TID253
from pydantic import TypeAdapter

from paddock.errors import ModelError
from paddock.runtime.core.model import ModelResponse, TextDelta
from paddock.runtime.models.openai import OpenAIModel
from paddock.testing.model_server import Body, Status
from tests.e2e.models_openai_served import OPENAI
from tests.e2e.models_served import HELLO, REQUEST, TWO_CALLS, collect

if TYPE_CHECKING:
    from paddock.testing.model_server import Fault

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "bash", "description": "Runs.", "parameters": {"type": "object"}},
}
EITHER = dataclasses.replace(OPENAI, parameters=TypeAdapter(CompletionCreateParams))
ASKED = dataclasses.replace(REQUEST, tools=[TOOL])


@pytest.mark.rows("S-11")
async def test_an_answer_with_calls_in_one_piece_is_the_streamed_one() -> None:
    answers = []
    for streams in (True, False):
        async with EITHER.served([TWO_CALLS], streams_tools=streams) as (model, server):
            *texts, response = await collect(model, ASKED)
        assert isinstance(response, ModelResponse)
        assert "".join(each.text for each in texts if isinstance(each, TextDelta)) == "I look."
        answers.append(dataclasses.replace(response, tool_calls=_nameless(response)))
        body = server.requests[0].body
        assert body.get("stream", False) is streams
        assert ("stream_options" in body) is streams
        assert body["tools"] == [TOOL]
    assert answers[0] == answers[1]
    assert [call.name for call in answers[0].tool_calls] == ["bash", "read"]


def _nameless(response: ModelResponse) -> tuple[Any, ...]:
    """The calls without their ids, which differ from answer to answer."""
    return tuple(dataclasses.replace(call, id="") for call in response.tool_calls)


async def test_without_tools_it_streams_all_the_same() -> None:
    async with EITHER.served([HELLO], streams_tools=False) as (model, server):
        await collect(model, REQUEST)
    assert server.requests[0].body["stream"] is True


@pytest.mark.rows("S-11")
@pytest.mark.parametrize(
    ("address", "streams"),
    [
        ("https://api.cerebras.ai/v1", False),
        ("https://gateway.example/Cerebras/v1", False),
        ("https://api.openai.com/v1", True),
    ],
)
async def test_the_address_of_cerebras_is_asked_for_answers_in_one_piece(
    address: str, streams: bool
) -> None:
    model = OpenAIModel(base_url=address, api_key="none")
    assert model.streams_tools is streams
    await model.aclose()


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paddock.runtime.models._service._FIRST_WAIT", 0.001)


@pytest.mark.parametrize("fault", [Status(code=500, retry_after=0), Body(content=b'{"choices": [')])
async def test_an_answer_that_does_not_come_whole_is_asked_for_again(
    fault: Fault, short_waits: None
) -> None:
    async with EITHER.served([HELLO], faults=[fault], streams_tools=False) as (model, server):
        *_, response = await collect(model, ASKED)
    assert isinstance(response, ModelResponse)
    assert response.text == "Hello there."
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>", "before the answer was finished .*application/json"),
        (b"{}", "the stream ended before the answer was finished"),
        (b'{"x": "' + b"x" * (16 * 1024 * 1024), "the answer has more than 16777216 bytes"),
        (b'{"error": {"message": "no such model"}}', "no such model"),
    ],
)
async def test_what_is_no_answer_is_an_error(body: bytes, message: str) -> None:
    faults = [Body(content=body, content_type="application/json")]
    served = EITHER.served([HELLO], faults=faults, streams_tools=False, max_retries=0)
    async with served as (model, _):
        with pytest.raises(ModelError, match=message):
            await collect(model, ASKED)
