"""OpenAI's model and the services that answer it by its two protocols, for the tests of all."""

from __future__ import annotations

import functools
from typing import Any

import openai  # noqa: TID253 - the real client, to check the server by
from openai.types.chat.completion_create_params import (  # noqa: TID253
    CompletionCreateParamsStreaming,
)
from openai.types.responses.response_create_params import (  # noqa: TID253
    ResponseCreateParamsStreaming,
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


async def recorded_responses(turn: dict[str, Any]) -> bytes:
    async with ModelServer([turn]) as server, bare_client(server) as client:
        response = await client.responses.with_raw_response.create(
            model="scripted", input="Go.", stream=True
        )
        return bytes(await response.http_response.aread())


RESPONSES = Service(
    model=functools.partial(OpenAIModel, wire="responses"),
    variables="OPENAI",
    parameters=TypeAdapter(ResponseCreateParamsStreaming),
    recorded_stream=recorded_responses,
    counts_cache_writes=True,
    with_text=1500,
    among_calls=4300,
    events_with_text=6,
)
