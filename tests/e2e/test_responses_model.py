"""OpenAI's Responses API as the second wire of its client: when it is used, and what goes back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from paddock.errors import ModelError
from paddock.runtime.core.model import ModelRequest, ModelResponse, assistant_message, tool_message
from paddock.runtime.models.openai import OpenAIModel
from paddock.testing.model_server import Body
from tests.e2e.models_openai_served import RESPONSES
from tests.e2e.models_served import HELLO, REQUEST, TWO_CALLS, answered, collect

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Go."}]


def going_on(response: ModelResponse, **changes: Any) -> ModelRequest:
    """The request with the results of the calls of `response`, its message changed."""
    answer = assistant_message(response.text, response.tool_calls, response.opaque) | changes
    answer = json.loads(json.dumps(answer))  # as it is after a resume
    told = [tool_message(call.id, "ok") for call in response.tool_calls]
    return ModelRequest(model="gpt-5-mini", messages=[*ASKED, answer, *told])


async def test_reasoning_goes_back_with_the_results_of_its_calls() -> None:
    async with RESPONSES.served([TWO_CALLS, HELLO]) as (model, server):
        first = await answered(model, ModelRequest(model="gpt-5-mini", messages=ASKED))
        await answered(model, going_on(first))
    asked, back = (request.body for request in server.requests)
    assert (asked["instructions"], asked["store"]) == ("Be brief.", False)
    assert asked["include"] == ["reasoning.encrypted_content"]
    assert [item.get("type") for item in back["input"]] == [
        *("message", "reasoning", "message", "function_call", "function_call"),
        *("function_call_output", "function_call_output"),
    ]
    assert back["input"][1]["encrypted_content"]


async def test_reasoning_stays_away_from_another_service_and_from_a_changed_answer() -> None:
    async with RESPONSES.served([TWO_CALLS, HELLO, HELLO]) as (model, server):
        first = await answered(model, REQUEST)
        await answered(model, going_on(first, opaque={**first.opaque, "service": "other"}))
        await answered(model, going_on(first, content="I look elsewhere."))
    for request in server.requests[1:]:
        kinds = [item["type"] for item in request.body["input"]]
        assert "reasoning" not in kinds
        assert kinds.count("function_call") == 2


async def test_reasoning_that_the_service_keeps_to_itself_is_not_sent_back() -> None:
    output: list[dict[str, Any]] = [
        {"id": "rs_1", "type": "reasoning", "summary": []},
        {"type": "function_call", "call_id": "c1", "name": "bash", "arguments": ""},
    ]
    whole = {"object": "response", "status": "completed", "output": output}
    body = Body(content=json.dumps(whole).encode(), content_type="application/json")
    async with RESPONSES.served([HELLO], faults=[body]) as (model, _):
        response = await answered(model)
    assert response.opaque == {}
    assert [(call.id, call.arguments) for call in response.tool_calls] == [("c1", "{}")]


async def test_a_last_event_without_output_has_what_came_before_it() -> None:
    item = {"type": "message", "content": [{"type": "output_text", "text": "Hello."}]}
    events = [
        {"type": "response.output_text.delta", "delta": "Hel"},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"status": "completed", "output": []}},
    ]
    stream = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    async with RESPONSES.served([HELLO], faults=[Body(content=stream.encode())]) as (model, _):
        assert (await answered(model)).text == "Hello."


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        ({**HELLO, "finish_reason": "length"}, "length"),
        ({**HELLO, "finish_reason": "content_filter"}, "content_filter"),
        (HELLO, "stop"),
    ],
)
async def test_why_an_answer_ended_is_told(turn: dict[str, Any], reason: str) -> None:
    async with RESPONSES.served([turn]) as (model, _):
        assert (await answered(model)).finish_reason == reason


async def test_an_incomplete_response_is_cut_whatever_it_says_why() -> None:
    item = {"type": "message", "role": "assistant", "content": [{"text": "Half"}]}
    end = {"type": "response.incomplete", "response": {"status": "incomplete", "output": [item]}}
    faults = [Body(content=f"data: {json.dumps(end)}\n\n".encode())]
    async with RESPONSES.served([HELLO], faults=faults) as (model, _):
        answer = await answered(model)
    assert (answer.text, answer.finish_reason) == ("Half", "length")


async def test_a_refusal_is_no_answer() -> None:
    refused = {"type": "refusal", "refusal": "I cannot."}
    item = {"type": "message", "role": "assistant", "content": [refused]}
    end = {"type": "response.completed", "response": {"status": "completed", "output": [item]}}
    faults = [Body(content=f"data: {json.dumps(end)}\n\n".encode())]
    async with RESPONSES.served([HELLO], faults=faults) as (model, _):
        answer = await answered(model)
    assert (answer.text, answer.finish_reason) == ("I cannot.", "refusal")


async def test_a_response_that_failed_is_the_services_error() -> None:
    failed = {"status": "failed", "error": {"code": "server_error", "message": "out of ink"}}
    event = json.dumps({"type": "response.failed", "response": failed})
    faults = [Body(content=f"data: {event}\n\n".encode())] * 2
    async with RESPONSES.served([HELLO], faults=faults, max_retries=1) as (model, server):
        with pytest.raises(ModelError, match="out of ink") as caught:
            await collect(model)
    assert (caught.value.status, len(server.requests)) == (500, 2)


async def test_tools_formats_images_and_efforts_are_sent_as_the_service_takes_them() -> None:
    function = {"name": "bash", "description": "Run.", "parameters": {"type": "object"}}
    schema = {"name": "answer", "schema": {"type": "object"}, "strict": True}
    picture: dict[str, Any] = {
        "type": "image_url",
        "image_url": {"url": "data:image/png;base64,AA=="},
    }
    content = [{"type": "text", "text": "What is this?"}, picture]
    request = ModelRequest(
        model="scripted",
        messages=[{"role": "user", "content": content}],
        tools=[{"type": "function", "function": function}],
        response_format={"type": "json_schema", "json_schema": schema},
        reasoning_effort="low",
    )
    async with RESPONSES.served([HELLO]) as (model, server):
        await answered(model, request)
    body = server.requests[0].body
    assert body["tools"] == [{"type": "function", "strict": False, **function}]
    assert body["text"] == {"format": {"type": "json_schema", **schema}}
    assert body["reasoning"] == {"effort": "low"}
    assert body["input"][0]["content"] == [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": picture["image_url"]["url"], "detail": "auto"},
    ]


@pytest.mark.parametrize(
    ("base_url", "name", "wire", "path"),
    [
        (None, "gpt-5-mini", None, "/responses"),
        (None, "o4-mini", None, "/responses"),
        ("https://api.openai.com/v1/", "gpt-5", None, "/responses"),
        (None, "gpt-5-chat-latest", None, "/chat/completions"),
        (None, "gpt-4o", None, "/chat/completions"),
        (None, "gpt-5", "chat", "/chat/completions"),
        ("http://localhost:1/v1", "gpt-5", None, "/chat/completions"),
        ("https://there.openai.azure.com/openai/v1", "gpt-5", None, "/chat/completions"),
        ("http://localhost:1/v1", "any", "responses", "/responses"),
    ],
)
def test_the_wire_is_chosen_by_service_and_model(
    base_url: str | None, name: str, wire: Any, path: str
) -> None:
    model = OpenAIModel(base_url=base_url, api_key="k", wire=wire)
    assert model._path(ModelRequest(model=name, messages=ASKED)) == path
