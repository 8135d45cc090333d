"""What Anthropic's model is told and says, on a real socket."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import ConfigError, ModelError
from paddock.runtime.core.model import (
    Message,
    ModelRequest,
    ModelResponse,
    Usage,
    assistant_message,
    tool_message,
)
from paddock.runtime.models.anthropic import AnthropicModel
from paddock.testing.model_server import ModelServer, StreamError
from tests.e2e.anthropic_served import ANTHROPIC
from tests.e2e.models_served import (
    HELLO,
    ONE_CALL,
    REQUEST,
    TWO_CALLS,
    answered,
    collect,
    forget_accounts,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Paddock
    from tests.e2e.models_served import Model

BASH = {
    "type": "function",
    "function": {"name": "bash", "description": "Runs.", "parameters": {"properties": {}}},
}


@pytest.fixture(autouse=True)
def no_accounts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_accounts(monkeypatch, tmp_path)


async def test_what_is_not_set_is_not_sent() -> None:
    async with ANTHROPIC.served([HELLO]) as (model, server):
        await collect(model)
    told = {"type": "text", "text": "Go.", "cache_control": {"type": "ephemeral"}}
    assert server.requests[0].body == {
        "model": "scripted",
        "max_tokens": 64_000,
        "messages": [{"role": "user", "content": [told]}],
        "stream": True,
    }
    headers = server.requests[0].headers
    assert headers["content-type"] == "application/json"
    assert headers["x-stainless-read-timeout"] == "600.0"
    assert headers["anthropic-version"]


async def test_what_is_set_is_sent() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}
    request = ModelRequest(
        model="scripted",
        messages=[
            {"role": "system", "content": "You test."},
            {"role": "user", "content": "é \udc80"},
        ],
        tools=[BASH],
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
        reasoning_effort="low",
        service_tier="default",
    )
    async with ANTHROPIC.served([HELLO]) as (model, server):
        await collect(model, request)
    body = server.requests[0].body
    assert body["tools"][0]["input_schema"] == {"type": "object", "properties": {}}
    assert body["system"] == [
        {"type": "text", "text": "You test.", "cache_control": {"type": "ephemeral"}}
    ]
    assert body["output_config"]["effort"] == "low"
    assert body["output_config"]["format"]["schema"]["additionalProperties"] is False
    assert body["thinking"] == {"type": "adaptive"}
    assert body["service_tier"] == "standard_only"
    assert body["messages"][0]["content"][0]["text"] == "é ?"


async def test_json_of_any_shape_is_asked_for_in_the_system_prompt() -> None:
    request = ModelRequest(
        model="m", messages=REQUEST.messages, response_format={"type": "json_object"}
    )
    async with ANTHROPIC.served([HELLO]) as (model, server):
        await collect(model, request)
    (block,) = server.requests[0].body["system"]
    assert "JSON object" in block["text"]


@pytest.mark.parametrize(
    "asked",
    [
        {"type": "grammar"},
        {"type": "json_schema", "json_schema": {"name": "n", "schema": {"title": "no type"}}},
    ],
)
async def test_a_format_that_cannot_be_asked_for_fails_before_anything_is_sent(
    asked: dict[str, Any],
) -> None:
    request = ModelRequest(model="m", messages=REQUEST.messages, response_format=asked)
    async with ANTHROPIC.served([HELLO]) as (model, server):
        with pytest.raises(ModelError, match="response_format"):
            await collect(model, request)
    assert server.requests == []


@pytest.mark.parametrize(
    ("name", "effort", "thinking", "told"),
    [
        ("claude-sonnet-4-5-20250929", "medium", {"type": "enabled", "budget_tokens": 12288}, None),
        ("claude-opus-4-5", "minimal", {"type": "enabled", "budget_tokens": 1024}, None),
        ("claude-haiku-4-5", "max", {"type": "enabled", "budget_tokens": 49152}, None),
        ("claude-sonnet-4-6", "minimal", {"type": "adaptive"}, "low"),
        ("claude-opus-5-5", "max", {"type": "adaptive"}, "max"),
        ("claude-haiku-4-5", "none", {"type": "disabled"}, None),
        ("claude-opus-5-5", "none", {"type": "disabled"}, None),
        ("claude-3-7-sonnet-latest", "low", {"type": "enabled", "budget_tokens": 4096}, None),
        ("claude-opus-4-1-20250805", "max", {"type": "enabled", "budget_tokens": 23808}, None),
        ("claude-3-5-haiku-latest", "high", None, None),
        ("claude-3-haiku-20240307", "none", None, None),
    ],
)
async def test_effort_is_told_as_the_model_takes_it(
    name: str, effort: str, thinking: dict[str, Any] | None, told: str | None
) -> None:
    request = ModelRequest(model=name, messages=REQUEST.messages, reasoning_effort=effort)
    async with ANTHROPIC.served([HELLO]) as (model, server):
        await collect(model, request)
    body = server.requests[0].body
    assert body.get("thinking") == thinking
    assert body.get("output_config", {}).get("effort") == told


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("claude-3-opus-latest", 4_096),
        ("claude-3-haiku-20240307", 4_096),
        ("claude-3-5-sonnet-20241022", 8_192),
        ("claude-3-7-sonnet-20250219", 64_000),
        ("claude-4-opus-20250514", 32_000),
        ("claude-opus-4-20250514", 32_000),
        ("claude-opus-4-0", 32_000),
        ("claude-opus-4-1-20250805", 32_000),
        ("claude-opus-4-5-20251101", 64_000),
        ("claude-opus-4-10", 64_000),
        ("claude-sonnet-4-20250514", 64_000),
        ("one-of-our-own", 64_000),
    ],
)
async def test_no_model_is_allowed_more_than_it_can_write(name: str, tokens: int) -> None:
    async with ANTHROPIC.served([HELLO]) as (model, server):
        await collect(model, ModelRequest(model=name, messages=REQUEST.messages))
    assert server.requests[0].body["max_tokens"] == tokens


async def test_a_blank_prompt_is_answered() -> None:
    request = ModelRequest(model="scripted", messages=[{"role": "user", "content": " "}])
    async with ANTHROPIC.served([HELLO]) as (model, _):
        assert (await answered(model, request)).text == "Hello there."


async def test_an_effort_without_a_budget_is_a_model_error() -> None:
    request = ModelRequest(
        model="claude-opus-4-5", messages=REQUEST.messages, reasoning_effort="some"
    )
    async with ANTHROPIC.served([HELLO]) as (model, _):
        with pytest.raises(ModelError, match="'some' is not one of none, minimal, low"):
            await collect(model, request)


def history(response: ModelResponse) -> list[Message]:
    """The conversation after `response`, as the loop keeps it."""
    results = [tool_message(call.id, "done") for call in response.tool_calls]
    answer = assistant_message(response.text, response.tool_calls, response.opaque)
    return [*REQUEST.messages, answer, *results]


THINKER = "claude-opus-4-5"


async def test_thinking_is_never_text_and_goes_back_with_the_results() -> None:
    async with ANTHROPIC.served([TWO_CALLS, HELLO]) as (model, server):
        first = await answered(model, ModelRequest(model=THINKER, messages=REQUEST.messages))
        assert first.text == "I look."
        request = ModelRequest(model=THINKER, messages=history(first), reasoning_effort="low")
        assert (await answered(model, request)).text == "Hello there."
    body = server.requests[1].body
    _, answer, told = body["messages"]
    assert [block["type"] for block in answer["content"]] == [
        "thinking", "text", "tool_use", "tool_use",
    ]  # fmt: skip
    assert answer["content"][0]["thinking"] == "Which tests fail?"
    assert [block["tool_use_id"] for block in told["content"]] == ["call_1_1", "call_1_2"]
    assert body["thinking"]["type"] == "enabled"


@pytest.mark.parametrize("loses", [False, True])
async def test_thinking_survives_its_process_and_a_turn_that_lost_it_ends_without(
    loses: bool,
) -> None:
    """The service refuses to think in a turn that did not begin so."""
    async with ANTHROPIC.served([TWO_CALLS, HELLO]) as (model, server):
        first = await answered(model, ModelRequest(model=THINKER, messages=REQUEST.messages))
        messages: list[Message] = json.loads(json.dumps(history(first)))
        if loses:
            del messages[1]["opaque"]
        request = ModelRequest(model=THINKER, messages=messages, reasoning_effort="low")
        other = AnthropicModel(base_url=server.base_url, api_key=server.api_key)
        assert (await answered(other, request)).text == "Hello there."
        await other.aclose()
    assert ("thinking" in server.requests[1].body) is not loses


async def test_thinking_stays_behind_when_the_answer_is_not_what_it_was() -> None:
    async with ANTHROPIC.served([TWO_CALLS, HELLO]) as (model, server):
        first = await answered(model, ModelRequest(model=THINKER, messages=REQUEST.messages))
        messages = history(first)
        messages[1] = {**messages[1], "content": "I looked."}
        await answered(model, ModelRequest(model=THINKER, messages=messages))
    answer = server.requests[1].body["messages"][1]
    assert [block["type"] for block in answer["content"]] == ["text", "tool_use", "tool_use"]


async def test_what_one_model_thought_is_not_told_to_another() -> None:
    async with ANTHROPIC.served([TWO_CALLS, HELLO]) as (model, server):
        first = await answered(model, ModelRequest(model=THINKER, messages=REQUEST.messages))
        await answered(model, ModelRequest(model="claude-opus-5-5", messages=history(first)))
    answer = server.requests[1].body["messages"][1]
    assert [block["type"] for block in answer["content"]] == ["text", "tool_use", "tool_use"]


async def test_the_prefix_of_the_last_request_is_marked_in_the_next() -> None:
    messages: list[Message] = [{"role": "system", "content": "You test."}, *REQUEST.messages]
    async with ANTHROPIC.served([ONE_CALL, ONE_CALL, ONE_CALL, HELLO]) as (model, server):
        for _ in range(3):
            response = await answered(
                model, ModelRequest(model="m", messages=messages, tools=[BASH])
            )
            messages += history(response)[1:]
        await answered(model, ModelRequest(model="m", messages=messages, tools=[BASH]))
    bodies = [request.body for request in server.requests]
    for body, following in itertools.pairwise(bodies):
        last = max(number for number, turn in enumerate(body["messages"]) if _marked(turn))
        assert last == len(body["messages"]) - 1
        assert _marked(following["messages"][last])
        assert "cache_control" in body["system"][0]
        assert _without_marks(following["messages"][: last + 1]) == _without_marks(body["messages"])


async def test_tools_are_marked_where_there_is_no_system_prompt() -> None:
    async with ANTHROPIC.served([HELLO]) as (model, server):
        await collect(model, ModelRequest(model="m", messages=REQUEST.messages, tools=[BASH]))
    assert server.requests[0].body["tools"][-1]["cache_control"] == {"type": "ephemeral"}


def _marked(turn: dict[str, Any]) -> bool:
    return "cache_control" in turn["content"][-1]


def _without_marks(turns: list[dict[str, Any]]) -> str:
    return json.dumps(turns).replace(', "cache_control": {"type": "ephemeral"}', "")


async def test_the_cost_comes_from_the_price_list() -> None:
    async def cost(model: Model, name: str) -> float:
        request = ModelRequest(model=name, messages=REQUEST.messages)
        return (await answered(model, request)).usage.cost_usd

    plain = {"input_tokens": 1000, "output_tokens": 10}
    usages = iter([plain, {**plain, "cached_tokens": 900}, {**plain, "cache_write_tokens": 900}])
    turns = [lambda _: {"text": "Hi.", "usage": next(usages, plain)}]
    async with ANTHROPIC.served(turns) as (model, _):
        paid, read, written = [await cost(model, "claude-haiku-5-5") for _ in range(3)]
        assert 0 < read < paid < written
        assert await cost(model, "scripted") == 0


@pytest.mark.parametrize("kind", ["overloaded_error", "api_error"])
async def test_an_error_in_the_stream_that_may_pass_is_begun_again_before_the_first_text(
    kind: str,
) -> None:
    fault = StreamError(after=2, kind=kind)
    async with ANTHROPIC.served([ONE_CALL], faults=[fault]) as (model, server):
        response = await answered(model)
    assert [call.name for call in response.tool_calls] == ["bash"]
    assert response.usage == Usage(input_tokens=100, output_tokens=20)
    assert len(server.requests) == 2


def test_credentials_on_the_disk_that_are_none_are_a_config_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(tmp_path))
    with pytest.raises(ConfigError, match="Config file not found"):
        AnthropicModel()


async def test_a_token_of_another_kind_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ModelServer([HELLO]) as server:
        monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", server.api_key)
        model = AnthropicModel(base_url=server.base_url)
        assert (await answered(model)).text == "Hello there."
        await model.aclose()


async def test_paddock_run_with_a_model_of_anthropics(paddock: Paddock) -> None:
    turns: list[dict[str, Any]] = [
        {
            "thinking": "Nobody sees this.",
            "tool_calls": [{"name": "bash", "arguments": {"command": "echo from inside"}}],
        },
        {"expect": "from inside", "text": "It said so."},
    ]
    async with ModelServer(turns) as server:
        done = await asyncio.to_thread(
            paddock,
            *("run", "Say something.", "--model", "claude-haiku-5-5", "--profile", "unrestricted"),
            *("--isolation", "none"),
            env={
                "ANTHROPIC_BASE_URL": server.base_url,
                "ANTHROPIC_API_KEY": server.api_key,
                "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
            },
        )
    assert done.returncode == 0, done.stderr
    assert "It said so." in done.stdout
    assert "Nobody sees this." not in done.stdout + done.stderr
    assert len(server.requests) == 2


def test_paddock_run_without_a_key_says_which_one(paddock: Paddock) -> None:
    done = paddock("run", "Hi", "--model", "claude-haiku-5-5")
    assert done.returncode != 0
    assert "ANTHROPIC_API_KEY" in done.stdout + done.stderr


def test_doctor_tells_of_the_key_and_does_not_show_it(paddock: Paddock) -> None:
    done = paddock("doctor", "--json", env={"ANTHROPIC_API_KEY": "sk-ant-very-secret"})
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert findings["ANTHROPIC_API_KEY"]["status"] == "ok"
    assert findings["Anthropic client"]["status"] == "ok"
    assert "very-secret" not in done.stdout
