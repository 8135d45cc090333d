"""The test server's Responses API and lists of models are what the services' own clients accept."""

from __future__ import annotations

import json
from typing import Any

import anthropic  # noqa: TID253 - the real clients, to check the server by
import openai  # noqa: TID253
import pytest
from openai.types.responses import ResponseStreamEvent  # noqa: TID253
from pydantic import TypeAdapter

from paddock.testing.model_server import Fault, ModelServer, Status, StreamError
from tests.e2e.anthropic_served import bare_client as anthropic_client
from tests.e2e.anthropic_served import bare_request
from tests.e2e.models_openai_served import bare_client
from tests.e2e.models_served import HELLO, TWO_CALLS

ASKED: dict[str, Any] = {"model": "scripted", "input": "Go."}
CUT = {**HELLO, "finish_reason": "length"}


@pytest.mark.parametrize("turn", [HELLO, TWO_CALLS, CUT])
async def test_what_the_server_sends_is_what_the_services_types_allow(turn: dict[str, Any]) -> None:
    events: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    async with ModelServer([turn]) as server, bare_client(server) as client:
        raw = await client.responses.with_raw_response.create(**ASKED, stream=True)
        stream = bytes(await raw.http_response.aread())
    parts = [part.split(b"\ndata: ") for part in stream.split(b"\n\n") if part]
    contents = [json.loads(data) for _, data in parts]
    assert [name.removeprefix(b"event: ").decode() for name, _ in parts] == [
        content["type"] for content in contents
    ]
    assert [content["sequence_number"] for content in contents] == list(range(len(contents)))
    for content in contents:
        assert events.validate_python(content).model_dump(exclude_unset=True) == content


async def test_the_server_satisfies_the_bare_client_streaming_and_not() -> None:
    async with ModelServer([TWO_CALLS]) as server, bare_client(server) as client:
        whole = await client.responses.create(**ASKED)
        async with client.responses.stream(**ASKED) as stream:
            streamed = await stream.get_final_response()
    assert [item.type for item in whole.output] == [
        *("reasoning", "message"),
        *("function_call", "function_call"),
    ]
    assert whole.output_text == "I look."
    assert [json.loads(item["arguments"]) for item in whole.to_dict()["output"][2:]] == [
        {"command": "python -m pytest -q"},
        {"path": "src/été.py"},
    ]
    assert [item.to_dict() for item in streamed.output] != []
    assert streamed.output_text == whole.output_text
    assert whole.usage is not None
    assert whole.usage.to_dict() == {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 16},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 7},
        "total_tokens": 120,
    }


async def test_an_answer_that_was_cut_short_says_why() -> None:
    async with ModelServer([CUT]) as server, bare_client(server) as client:
        cut = await client.responses.create(**ASKED)
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")


async def test_a_conversation_goes_on_with_what_was_thought_and_called() -> None:
    async with ModelServer([TWO_CALLS, HELLO]) as server, bare_client(server) as client:
        first = await client.responses.create(**ASKED)
        items = [item.to_dict() for item in first.output]
        told = [
            {"type": "function_call_output", "call_id": item["call_id"], "output": "ok"}
            for item in items[2:]
        ]
        asked = [{"role": "user", "content": "Go."}, *items]
        second = await client.responses.create(**{**ASKED, "input": [*asked, *told]})
        assert second.output_text == "Hello there."
        with pytest.raises(openai.BadRequestError, match="No tool output found"):
            await client.responses.create(**{**ASKED, "input": asked})
        with pytest.raises(openai.BadRequestError, match="No tool call found"):
            await client.responses.create(**{**ASKED, "input": [asked[0], *told]})
        forged = [asked[0], {**items[0], "encrypted_content": "x"}, *items[1:], *told]
        with pytest.raises(openai.BadRequestError, match="could not be verified"):
            await client.responses.create(**{**ASKED, "input": forged})


async def test_the_server_refuses_as_the_service_does() -> None:
    faults: list[Fault] = [Status(code=429), StreamError(after=2, message="too much")]
    async with ModelServer([HELLO], faults=faults) as server, bare_client(server) as client:
        with pytest.raises(openai.RateLimitError, match="the script wants it so"):
            await client.responses.create(**ASKED)
        events = [event async for event in await client.responses.create(**ASKED, stream=True)]
    assert [event.type for event in events[2:]] == ["error"]
    assert (events[2].message, events[2].code) == ("too much", "overloaded_error")


async def test_the_models_are_listed_as_each_service_lists_them() -> None:
    async with (
        ModelServer([], models=["small", "large"]) as server,
        bare_client(server) as ours,
        anthropic_client(server) as theirs,
    ):
        assert [model.id async for model in ours.models.list()] == ["small", "large"]
        assert [model.id async for model in theirs.models.list()] == ["small", "large"]
        assert server.requests == []
        with pytest.raises(openai.NotFoundError, match="there is no GET /v1/files"):
            await ours.files.list()
        with pytest.raises(anthropic.NotFoundError) as refused:
            await theirs.get("/v1/files", cast_to=object)
    assert refused.value.body == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "there is no GET /v1/files"},
        "request_id": "req_0",
    }


async def test_tokens_are_counted_and_take_no_turn_of_the_script() -> None:
    request = bare_request()
    del request["max_tokens"]
    longer = [{"role": "user", "content": "Go. " * 400}]
    async with ModelServer([HELLO]) as server, anthropic_client(server) as client:
        short = await client.messages.count_tokens(**request)
        long = await client.messages.count_tokens(**{**request, "messages": longer})
        with pytest.raises(anthropic.BadRequestError, match="at least one message"):
            await client.messages.count_tokens(**{**request, "messages": []})
        answer = await client.messages.create(**bare_request())
    assert 0 < short.input_tokens < 20 < 390 < long.input_tokens < 450
    assert answer.content[0].text == "Hello there."
