"""Runtimes to test with, what they stream, and the documented streams to compare that with."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock.runtime.orchestration.define import (
    define_coordinator,
    define_runtime,
    define_specialist,
    define_tenant,
    define_tool,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Mapping, Sequence

    from paddock.runtime.orchestration.spec import RuntimeSpec, ToolSpec

STREAMS = Path(__file__).parent / "streams"
PATIENCE = 30.0
"""Seconds for what takes milliseconds, on a machine that is very busy."""

PROVIDERS = {"anthropic": {"apiKeyEnv": "ANTHROPIC_API_KEY"}}
MODEL = "claude-test"
USAGE_FIELDS = {
    "promptTokens",
    "completionTokens",
    "cacheReadInputTokens",
    "cacheCreationInputTokens",
    "totalTokens",
}


def echo_tool(name: str = "echo", approval: Any = None) -> ToolSpec:
    tool = define_tool(name, {"value": str}, "Say it again.", approval=approval)
    return tool.bind(lambda args, ctx: {"echo": args["value"]})


def team(*tools: ToolSpec, **of_runtime: Any) -> RuntimeSpec:
    """A coordinator ``lead`` and a specialist ``worker`` with `tools`."""
    return define_runtime(
        define_tenant("acme", "v1"),
        agents=[
            define_coordinator("lead", model=MODEL, prompt="Lead.", routes=["worker"]),
            define_specialist("worker", model=MODEL, prompt="Work.", tools=tools),
        ],
        providers=PROVIDERS,
        **of_runtime,
    )


def call(tool: str, **args: Any) -> dict[str, Any]:
    """One call of a script."""
    return {"tool": tool, "args": args}


def script(*calls: Mapping[str, Any]) -> str:
    """The prompt that has the scripted interpreter make `calls`."""
    return json.dumps({"script": calls})


async def read(stream: AsyncIterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events of `stream`, which JSON can hold, with one end."""
    async with asyncio.timeout(PATIENCE):
        events = [event async for event in stream]
    assert json.loads(json.dumps(events, allow_nan=False)) == events
    assert len(of_type(events, "finish") + of_type(events, "error")) == 1
    return events


def of_type(events: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == kind]


def results(events: Sequence[dict[str, Any]]) -> list[Any]:
    """The results of the tools that were called, in their order."""
    invocations = of_type(events, "tool-invocation")
    return [event["result"] for event in invocations if event["state"] == "result"]


def assert_streamed(events: Sequence[dict[str, Any]], name: str) -> None:
    """Compare `events` whole with the documented stream `name`."""
    wanted = [json.loads(line) for line in (STREAMS / f"{name}.jsonl").read_text().splitlines()]
    ids: dict[str, Any] = {}
    for number, (event, pattern) in enumerate(zip(events, wanted, strict=False), 1):
        _match(event, pattern, f"event {number}", ids)
    assert [each["type"] for each in events] == [each["type"] for each in wanted]
    assert len(set(ids.values())) == len(ids), f"two ids are the same: {ids}"


def _match(value: Any, pattern: Any, place: str, ids: dict[str, Any]) -> None:
    match pattern:
        case str() if pattern.startswith("<"):
            _match_placeholder(value, pattern, place, ids)
        case dict():
            assert isinstance(value, dict), place
            assert value.keys() == pattern.keys(), place
            for key, each in pattern.items():
                _match(value[key], each, f"{place}.{key}", ids)
        case list():
            assert isinstance(value, list), place
            assert len(value) == len(pattern), place
            for number, each in enumerate(pattern):
                _match(value[number], each, f"{place}[{number}]", ids)
        case _:
            assert value == pattern, place
            assert type(value) is type(pattern), place


def _match_placeholder(value: Any, pattern: str, place: str, ids: dict[str, Any]) -> None:
    if re.fullmatch(r"<id:\d+>", pattern):
        assert isinstance(value, str), place
        assert ids.setdefault(pattern, value) == value, place
    elif pattern in ("<ms>", "<n>", "<usd>"):
        assert isinstance(value, int | float), place
    elif pattern == "<usage>":
        assert value.keys() == USAGE_FIELDS, place
        assert all(isinstance(each, int) for each in value.values()), place
    elif pattern.startswith("<text"):
        assert isinstance(value, str), place
        assert value, place
    else:
        assert pattern == "<any>", f"{place}: what is {pattern}?"
