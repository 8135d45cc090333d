"""Agents of a multi-agent runtime on models of two services, over HTTP."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    create_runtime,
    define_coordinator,
    define_runtime,
    define_specialist,
    define_tenant,
    define_tool,
)
from paddock.runtime.orchestration.providers import NO_KEY
from paddock.testing.model_server import ModelServer

if TYPE_CHECKING:
    from paddock import EventStream, RuntimeSpec

LEADING: list[dict[str, Any]] = [
    {
        "text": "I ask the worker.",
        "tool_calls": [
            {"name": "call_agent", "arguments": {"agent": "worker", "prompt": "Say hello."}}
        ],
        "usage": {"input_tokens": 100, "output_tokens": 10},
    },
    {"text": "It said hello.", "expect": "hello", "usage": {"input_tokens": 120}},
]
WORKING: list[dict[str, Any]] = [
    {"tool_calls": [{"name": "echo", "arguments": {"value": "hello"}}]},
    {"text": "hello", "expect": '{"echo": "hello"}', "usage": {"input_tokens": 7}},
]


def team(anthropic: ModelServer, openai: ModelServer) -> RuntimeSpec:
    echo = define_tool("echo", {"value": str}, "Say it again.")
    tool = echo.bind(lambda args, ctx: {"echo": args["value"]})
    return define_runtime(
        define_tenant("acme", "v1"),
        agents=[
            define_coordinator("lead", model="claude-test", prompt="Lead.", routes=["worker"]),
            define_specialist("worker", model="gpt-test", prompt="Work.", tools=[tool]),
        ],
        providers={
            "anthropic": {
                "apiKeyEnv": "TEAM_ANTHROPIC_KEY",
                "baseUrl": anthropic.base_url.removesuffix("/v1"),
            },
            "openai-compatible": {"apiKeyEnv": "TEAM_OPENAI_KEY", "baseUrl": openai.base_url},
        },
    )


async def read(stream: EventStream) -> list[dict[str, Any]]:
    async with asyncio.timeout(30):
        return [event async for event in stream]


@pytest.mark.rows("F-15", "F-21", "F-26")
@pytest.mark.parametrize("interpreter", ["anthropic", "openai"])
async def test_each_agent_is_answered_by_its_own_provider(
    monkeypatch: pytest.MonkeyPatch, interpreter: str
) -> None:
    before = asyncio.all_tasks()
    async with ModelServer(LEADING) as anthropic, ModelServer(WORKING) as openai:
        monkeypatch.setenv("TEAM_ANTHROPIC_KEY", anthropic.api_key)
        monkeypatch.setenv("TEAM_OPENAI_KEY", openai.api_key)
        runtime = create_runtime(team(anthropic, openai), interpreter=interpreter)
        events = await read(runtime.query("Say hello.", thread_id="thread-1"))
        left = [task.get_name() for task in asyncio.all_tasks() - before]
        assert not [name for name in left if name.startswith(("run", "model"))]
    kinds = [(each["type"], each.get("state")) for each in events]
    assert [kind for kind, _ in itertools.groupby(kinds)] == [  # a text comes in any pieces
        ("tool-agent", "call"),
        ("step-start", None),
        ("text", None),
        ("tool-invocation", "call"),
        ("tool-agent", "call"),
        ("step-start", None),
        ("tool-invocation", "call"),
        ("tool-invocation", "result"),
        ("step-start", None),
        ("text", None),
        ("tool-agent", "result"),
        ("data-tool-agent", None),
        ("tool-invocation", "result"),
        ("step-start", None),
        ("text", None),
        ("data-cost-summary", None),
        ("data-latency-summary", None),
        ("finish", None),
        ("tool-agent", "result"),
    ]
    (finish,) = [each for each in events if each["type"] == "finish"]
    assert finish["usage"]["promptTokens"] == 100 + 120 + 7
    (cost,) = [each["data"] for each in events if each["type"] == "data-cost-summary"]
    assert cost["agents"]["lead"]["promptTokens"] == 220
    assert cost["agents"]["lead/worker"]["model"] == "gpt-test"
    assert [each.body["model"] for each in anthropic.requests] == ["claude-test"] * 2
    assert [each.body["model"] for each in openai.requests] == ["gpt-test"] * 2


@pytest.mark.rows("F-15")
async def test_a_key_that_is_not_set_is_an_error_that_names_it() -> None:
    async with ModelServer(LEADING) as anthropic, ModelServer(WORKING) as openai:
        runtime = create_runtime(team(anthropic, openai), interpreter="anthropic")
        events = await read(runtime.query("Say hello.", thread_id="thread-1"))
    assert events[-1]["error"]["code"] == "missing_credentials"
    assert "TEAM_ANTHROPIC_KEY" in events[-1]["error"]["message"]


@pytest.mark.rows("F-15")
async def test_a_key_of_the_environment_is_not_sent_to_a_service_of_ones_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not for you")
    async with ModelServer([{"text": "Hi"}], api_key=NO_KEY) as server:
        spec = define_runtime(
            define_tenant("acme", "v1"),
            agents=[define_specialist("worker", model="local/qwen", prompt="Work.")],
            providers={"local": {"baseUrl": server.base_url}, "openai-compatible": {}},
        )
        runtime = create_runtime(spec, interpreter="openai")
        events = await read(runtime.run_specialist("worker", "Hi"))
    assert [each["text"] for each in events if each["type"] == "text"] == ["Hi"]
    assert server.requests[0].body["model"] == "qwen"
