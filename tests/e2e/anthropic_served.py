"""Anthropic's model and the service that answers it, for the tests of both."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import anthropic  # noqa: TID253 - the real client, to check the server by
from anthropic.types.message_create_params import MessageCreateParamsStreaming  # noqa: TID253
from pydantic import TypeAdapter

from paddock.runtime.models.anthropic import AnthropicModel
from paddock.runtime.models.base import ModelEvent, ModelRequest, ModelResponse, TextDelta
from paddock.testing.model_server import Fault, ModelServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

HELLO = {"text": "Hello there.", "usage": {"input_tokens": 10, "output_tokens": 3}}
TWO_CALLS: dict[str, Any] = {
    "thinking": "Which tests fail?",
    "text": "I look.",
    "tool_calls": [
        {"name": "bash", "arguments": {"command": "python -m pytest -q"}},
        {"name": "read", "arguments": {"path": "src/été.py"}},
    ],
    "usage": {
        "input_tokens": 100,
        "output_tokens": 20,
        "cached_tokens": 64,
        "cache_write_tokens": 16,
        "reasoning_tokens": 7,
    },
}
ONE_CALL: dict[str, Any] = {
    "tool_calls": [{"name": "bash", "arguments": {"command": "true"}}],
    "usage": {"input_tokens": 100, "output_tokens": 20},
}
REQUEST = ModelRequest(model="scripted", messages=[{"role": "user", "content": "Go."}])
PARAMETERS: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsStreaming)
DEADLINE = 40.0  # seconds; far above what anything here takes, also on a busy machine
WITH_TEXT = 700  # bytes that have some of the text of `HELLO`, and not all


@contextlib.asynccontextmanager
async def served(
    turns: Sequence[Any], *, faults: Sequence[Fault | None] = (), **options: Any
) -> AsyncIterator[tuple[AnthropicModel, ModelServer]]:
    """A model and its server; all that was asked is what the service's types allow."""
    async with ModelServer(turns, faults=faults) as server:
        model = AnthropicModel(base_url=server.base_url, api_key=server.api_key, **options)
        try:
            async with asyncio.timeout(DEADLINE):
                yield model, server
        finally:
            await model.aclose()
        for body in {json.dumps(request.body) for request in server.requests}:
            _consume(PARAMETERS.validate_python(json.loads(body)))


def _consume(value: object) -> None:
    """Iterate to the bottom: of what is iterable, pydantic validates only what is asked for."""
    if isinstance(value, Mapping):
        value = value.values()
    if isinstance(value, Iterable) and not isinstance(value, str):
        for item in value:
            _consume(item)


async def collect(model: AnthropicModel, request: ModelRequest = REQUEST) -> list[ModelEvent]:
    return [event async for event in model.stream(request)]


async def answered(model: AnthropicModel, request: ModelRequest = REQUEST) -> ModelResponse:
    *deltas, response = await collect(model, request)
    assert isinstance(response, ModelResponse)
    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == response.text
    return response


async def recorded_stream(turn: dict[str, Any]) -> bytes:
    async with ModelServer([turn]) as server, bare_client(server) as client:
        response = await client.messages.with_raw_response.create(**bare_request(), stream=True)
        return bytes(await response.http_response.aread())


def bare_request() -> dict[str, Any]:
    return {
        "model": "scripted",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Go."}],
    }


def bare_client(server: ModelServer) -> Any:
    return anthropic.AsyncAnthropic(
        base_url=server.base_url.removesuffix("/v1"), api_key=server.api_key, max_retries=0
    )
