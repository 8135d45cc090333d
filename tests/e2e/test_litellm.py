"""Our models' clients behind a gateway of somebody else's: the LiteLLM proxy.

What it does to an answer, an error or a broken stream on its way is its own; nothing of it is
rebuilt here. One proxy serves all tests of this module.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import ModelError
from paddock.runtime.core.model import ModelRequest, ModelResponse, TextDelta, ToolCall
from paddock.runtime.models.anthropic import AnthropicModel
from paddock.runtime.models.openai import OpenAIModel
from paddock.testing.model_server import Cut, Status
from tests.e2e import litellm_proxy
from tests.e2e.models_served import DEADLINE, HELLO, TWO_CALLS, forget_accounts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Require
    from tests.e2e.litellm_proxy import LiteLLM

pytestmark = pytest.mark.parametrize("route", ["chat", "responses", "claude"])


@pytest.fixture(scope="module")
def proxy(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiteLLM]:
    require("litellm", litellm_proxy.is_installed(), "no proxy; tools/venv-litellm installs it")
    with litellm_proxy.running(tmp_path_factory.mktemp("litellm")) as running:
        yield running


@pytest.fixture(autouse=True)
def no_accounts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_accounts(monkeypatch, tmp_path)


def client(proxy: LiteLLM, route: str, *, key: str | None = None) -> OpenAIModel | AnthropicModel:
    """The client of the route's protocol, which tries again once."""
    key = key or proxy.api_key
    if route == "claude":
        return AnthropicModel(base_url=proxy.base_url, api_key=key, max_retries=1)
    return OpenAIModel(base_url=proxy.base_url, api_key=key, max_retries=1, wire=route)


async def ask(
    model: OpenAIModel | AnthropicModel, name: str, messages: Any = None
) -> ModelResponse:
    """The whole answer; what was streamed is the same text."""
    asked = messages or [{"role": "user", "content": "Go."}]
    request = ModelRequest(model=name, messages=asked, tools=[TOOL])
    pieces: list[str] = []
    response = None
    async with asyncio.timeout(DEADLINE), aclosing(model.stream(request)) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                pieces.append(event.text)
            elif isinstance(event, ModelResponse):
                response = event
    assert response is not None
    assert "".join(pieces) == response.text
    return response


TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "bash",
        "description": "Run a command.",
        "parameters": {
            "type": "object",
            "properties": {"command": {"type": "string"}},
            "required": ["command"],
        },
    },
}


async def test_a_text_comes_through(proxy: LiteLLM, route: str) -> None:
    model = client(proxy, route)
    try:
        async with proxy.upstream([HELLO]):
            response = await ask(model, route)
        assert (response.text, response.finish_reason) == ("Hello there.", "stop")
        assert (response.usage.input_tokens, response.usage.output_tokens) == (10, 3)
    finally:
        await model.aclose()


async def test_calls_come_through_and_their_results_go_back(proxy: LiteLLM, route: str) -> None:
    calls = {key: value for key, value in TWO_CALLS.items() if key != "thinking"}
    model = client(proxy, route)
    try:
        async with proxy.upstream([calls, HELLO]) as server:
            first = await ask(model, route)
            assert first.tool_calls[1].arguments.replace(" ", "") in (
                '{"path":"src/\\u00e9t\\u00e9.py"}',
                '{"path":"src/été.py"}',
            )
            assert [call.name for call in first.tool_calls] == ["bash", "read"]
            second = await ask(model, route, _told(first))
            assert second.text == "Hello there."
        assert len(server.requests) == 2
    finally:
        await model.aclose()


def _told(response: ModelResponse) -> list[dict[str, Any]]:
    """The conversation so far, with a result for each call."""

    def sent(call: ToolCall) -> dict[str, Any]:
        function = {"name": call.name, "arguments": call.arguments}
        return {"id": call.id, "type": "function", "function": function}

    answer = {
        "role": "assistant",
        "content": response.text,
        "tool_calls": [sent(call) for call in response.tool_calls],
    }
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": "ok"} for call in response.tool_calls
    ]
    return [{"role": "user", "content": "Go."}, answer, *results]


@pytest.mark.parametrize(("code", "requests"), [(400, 1), (401, 1), (429, 2), (500, 2)])
async def test_an_error_of_the_service_keeps_its_reason_and_its_class(
    proxy: LiteLLM, route: str, code: int, requests: int
) -> None:
    model = client(proxy, route)
    reason = "the well of words is dry"
    try:
        async with proxy.upstream([HELLO], [Status(code=code, message=reason)] * 2) as server:
            with pytest.raises(ModelError, match=reason) as caught:
                await ask(model, route)
        assert caught.value.status == code
        assert len(server.requests) == requests
    finally:
        await model.aclose()


async def test_a_key_that_the_gateway_does_not_know_is_told_at_once(
    proxy: LiteLLM, route: str
) -> None:
    model = client(proxy, route, key="wrong")
    try:
        async with proxy.upstream([HELLO]) as server:
            with pytest.raises(ModelError) as caught:
                await ask(model, route)
        assert caught.value.status in (400, 401)  # without a database of keys it cannot tell
        assert server.requests == []
    finally:
        await model.aclose()


async def test_an_answer_cut_in_the_middle_is_never_taken_for_a_whole_one(
    proxy: LiteLLM, route: str
) -> None:
    model = client(proxy, route)
    words = {**HELLO, "text": "word " * 400}
    try:
        async with proxy.upstream([words], [Cut(after=6000)] * 2):
            with pytest.raises(ModelError):
                await ask(model, route)
    finally:
        await model.aclose()


async def test_the_gateways_own_answer_is_read(proxy: LiteLLM, route: str) -> None:
    model = client(proxy, route)
    try:
        if route == "responses":  # it cannot make up a stream of these, and sends an error as one
            with pytest.raises(ModelError, match=r"API error 500 [^:]*: Error processing stream"):
                await ask(model, litellm_proxy.MOCKED)
        else:
            assert (await ask(model, litellm_proxy.MOCKED)).text == litellm_proxy.MOCK_TEXT
    finally:
        await model.aclose()
