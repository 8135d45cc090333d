"""OpenAI's model and the service that answers it, for the tests of both."""

from __future__ import annotations

from typing import Any

import openai  # noqa: TID253 - the real client, to check the server by
from openai.types.chat.completion_create_params import (  # noqa: TID253
    CompletionCreateParamsStreaming,
)
from pydantic import TypeAdapter

from paddock.runtime.models.openai import OpenAIModel
from paddock.testing.model_server import ModelServer
from tests.e2e.models_served import REQUEST, Service


def bare_client(server: ModelServer) -> Any:
    return openai.AsyncOpenAI(base_url=server.base_url, api_key=server.api_key, max_retries=0)


async def recorded_stream(turn: dict[str, Any]) -> bytes:
    async with ModelServer([turn]) as server, bare_client(server) as client:
        response = await client.chat.completions.with_raw_response.create(
            model="scripted",
            messages=REQUEST.messages,
            stream=True,
            stream_options={"include_usage": True},
        )
        return bytes(await response.http_response.aread())


OPENAI = Service(
    model=OpenAIModel,
    variables="OPENAI",
    parameters=TypeAdapter(CompletionCreateParamsStreaming),
    recorded_stream=recorded_stream,
    counts_cache_writes=False,
)
