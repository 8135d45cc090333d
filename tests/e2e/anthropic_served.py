"""Anthropic's model and the service that answers it, for the tests of both."""

from __future__ import annotations

from typing import Any

import anthropic  # noqa: TID253 - the real client, to check the server by
from anthropic.types.message_create_params import MessageCreateParamsStreaming  # noqa: TID253
from pydantic import TypeAdapter

from paddock.runtime.models.anthropic import AnthropicModel
from paddock.testing.model_server import ModelServer
from tests.e2e.models_served import REQUEST, Service


def bare_client(server: ModelServer) -> Any:
    return anthropic.AsyncAnthropic(
        base_url=server.base_url.removesuffix("/v1"), api_key=server.api_key, max_retries=0
    )


def bare_request() -> dict[str, Any]:
    return {"model": "scripted", "max_tokens": 100, "messages": REQUEST.messages}


async def recorded_stream(turn: dict[str, Any]) -> bytes:
    async with ModelServer([turn]) as server, bare_client(server) as client:
        response = await client.messages.with_raw_response.create(**bare_request(), stream=True)
        return bytes(await response.http_response.aread())


ANTHROPIC = Service(
    model=AnthropicModel,
    variables="ANTHROPIC",
    parameters=TypeAdapter(MessageCreateParamsStreaming),
    recorded_stream=recorded_stream,
    counts_cache_writes=True,
)
