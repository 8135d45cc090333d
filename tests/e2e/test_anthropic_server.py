"""The test server is one that Anthropic's own client and types accept."""

from __future__ import annotations

import json
from typing import Any

import anthropic  # noqa: TID253 - the real client, to check the server by
import pytest
from anthropic.types import RawMessageStreamEvent  # noqa: TID253
from anthropic.types.shared.error_response import ErrorResponse  # noqa: TID253
from pydantic import TypeAdapter

from paddock.testing.model_server import ModelServer, Status
from tests.e2e.anthropic_served import bare_client, bare_request, recorded_stream
from tests.e2e.models_served import HELLO, REQUEST, TWO_CALLS


@pytest.mark.parametrize("turn", [HELLO, TWO_CALLS, {**HELLO, "finish_reason": "content_filter"}])
async def test_what_the_server_sends_is_what_the_services_types_allow(turn: dict[str, Any]) -> None:
    events: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    stream = await recorded_stream(turn)
    for event in filter(None, stream.split(b"\n\n")):
        name, data = event.split(b"\ndata: ")
        content = json.loads(data)
        assert name.removeprefix(b"event: ").decode() == content["type"]
        if content["type"] != "ping":
            assert events.validate_python(content).model_dump(exclude_unset=True) == content


async def test_the_server_satisfies_the_bare_client_streaming_and_not() -> None:
    async with ModelServer([TWO_CALLS]) as server, bare_client(server) as client:
        whole = await client.messages.create(**bare_request())
        async with client.messages.stream(**bare_request()) as stream:
            streamed = await stream.get_final_message()
    assert [block.type for block in whole.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert [block.input for block in whole.content[2:]] == [
        {"command": "python -m pytest -q"},
        {"path": "src/été.py"},
    ]
    assert streamed.to_dict()["content"] == whole.to_dict()["content"]
    assert (streamed.usage.input_tokens, streamed.stop_reason) == (20, "tool_use")


async def test_the_server_refuses_as_the_service_does() -> None:
    async with (
        ModelServer([HELLO], faults=[Status(code=529)]) as server,
        bare_client(server) as client,
    ):
        with pytest.raises(anthropic.OverloadedError) as caught:
            await client.messages.create(**bare_request())
        body = ErrorResponse.model_validate(caught.value.body)
        assert body.error.type == caught.value.type == "overloaded_error"
        with pytest.raises(anthropic.BadRequestError, match="first must be the user"):
            messages = [{"role": "assistant", "content": "Hm."}, *REQUEST.messages]
            await client.messages.create(**{**bare_request(), "messages": messages})


async def test_malformed_arguments_are_an_empty_object_in_a_whole_answer() -> None:
    turn = {"tool_calls": [{"name": "bash", "arguments": '{"command": '}]}
    async with ModelServer([turn]) as server, bare_client(server) as client:
        whole = await client.messages.create(**bare_request())
    assert whole.content[0].input == {}
