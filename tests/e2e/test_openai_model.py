"""What OpenAI's model is told and says, on a real socket."""

from __future__ import annotations

import pytest

from paddock.runtime.core.model import ModelRequest, ModelResponse, Usage
from paddock.runtime.models._answer import AnswerBuilder
from paddock.runtime.models._failure import BrokenStream
from paddock.runtime.models._sse import SSEParser
from paddock.testing.model_server import ModelServer
from tests.e2e.models_openai_served import OPENAI, bare_client, recorded_stream
from tests.e2e.models_served import HELLO, REQUEST, TWO_CALLS, answered, collect


@pytest.mark.rows("S-11")
async def test_what_is_not_set_is_not_sent() -> None:
    async with OPENAI.served([HELLO]) as (model, server):
        await collect(model)
    assert server.requests[0].body == {
        "model": "scripted",
        "messages": [{"role": "user", "content": "Go."}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert server.requests[0].headers["content-type"] == "application/json"
    assert server.requests[0].headers["x-stainless-read-timeout"] == "600.0"


@pytest.mark.rows("S-11")
async def test_what_is_set_is_sent_and_flex_waits_longer() -> None:
    tools = [{"type": "function", "function": {"name": "bash", "parameters": {}}}]
    request = ModelRequest(
        model="scripted",
        messages=[{"role": "user", "content": "é \udc80"}],
        tools=tools,
        response_format={"type": "json_object"},
        reasoning_effort="low",
        service_tier="flex",
    )
    async with OPENAI.served([HELLO]) as (model, server):
        await collect(model, request)
    body = server.requests[0].body
    assert body["tools"] == tools
    assert body["response_format"] == {"type": "json_object"}
    assert body["reasoning_effort"] == "low"
    assert body["service_tier"] == "flex"
    assert body["messages"][0]["content"] == "é ?"
    assert server.requests[0].headers["x-stainless-read-timeout"] == "900.0"


async def test_the_cost_comes_from_the_price_list() -> None:
    turn = {"text": "Hi.", "usage": {"input_tokens": 1_000_000, "output_tokens": 0}}
    request = ModelRequest(model="gpt-5-mini", messages=REQUEST.messages)
    async with OPENAI.served([turn]) as (model, _):
        assert (await answered(model, request)).usage.cost_usd > 0
        assert (await answered(model)).usage.cost_usd == 0


@pytest.mark.rows("C41")
async def test_a_silent_cut_at_any_byte_never_gives_out_a_part_of_a_call() -> None:
    stream = await recorded_stream(TWO_CALLS)
    whole = _read(stream)
    finished = stream.index(b'"finish_reason":"tool_calls"')
    for end in range(len(stream)):
        try:
            response = _read(stream[:end])
        except BrokenStream:
            assert end < stream.index(b"\n\n", finished) + 2
        else:
            assert response.tool_calls == whole.tool_calls
            assert response.usage in (Usage(), whole.usage)


def _read(stream: bytes) -> ModelResponse:
    builder = AnswerBuilder()
    for event in SSEParser().feed(stream):
        builder.add(event)
    return builder.response()


async def test_the_server_satisfies_the_bare_client_streaming_and_not() -> None:
    messages = [{"role": "user", "content": "Go."}]
    async with ModelServer([TWO_CALLS]) as server, bare_client(server) as client:
        whole = await client.chat.completions.create(model="m", messages=messages)
        names = [call.function.name for call in whole.choices[0].message.tool_calls]
        assert names == ["bash", "read"]
        assert whole.usage.total_tokens == 120
        stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "I look."
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
