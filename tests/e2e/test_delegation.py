"""Agents that work for an agent of a service: one real socket, one real sandbox."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    AgentToolHandler,
    RuntimeOptions,
    create_runtime,
    dispatch_prompt,
    run_prompt,
    session_usage,
)
from paddock.testing.model_server import ModelServer, Stall

if TYPE_CHECKING:
    from pathlib import Path

    from paddock import ModelRequest

PATIENCE = 60
USAGE = {"input_tokens": 10, "output_tokens": 1}


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def begin(request: ModelRequest) -> dict[str, Any]:
    """The first answer, which depends on who asks."""
    prompt = request.messages[-1]["content"]
    if prompt == "Go.":
        calls = [
            call("delegate", instruction="Write a."),
            call("delegate", instruction="Write b."),
            call("critic", instruction="Judge."),
        ]
    elif prompt == "Judge.":
        assert request.messages[0]["content"] == "You are a critic."
        return {"text": "Not bad.", "usage": USAGE}
    else:
        name = prompt.removeprefix("Write ").strip(".")
        calls = [call("bash", command=f"echo {name} > {name}.txt")]
    return {"tool_calls": calls, "usage": USAGE}


def go_on(request: ModelRequest) -> dict[str, Any]:
    results = [each["content"] for each in request.messages if each["role"] == "tool"]
    if len(results) == 1:
        return {"text": "Written.", "usage": USAGE}
    assert results == ["Written.", "Written.", "Not bad."]
    return {"text": "All is done.", "usage": USAGE}


def options(server: ModelServer, directory: Path) -> RuntimeOptions:
    return RuntimeOptions(profile="developer", base_url=server.base_url, working_dir=str(directory))


@pytest.mark.rows("S-50", "S-51", "O-16")
async def test_agents_work_for_an_agent_at_once_over_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ModelServer([begin, go_on]) as server:
        monkeypatch.setenv("OPENAI_API_KEY", server.api_key)
        async with create_runtime("Help.", options=options(server, tmp_path)) as runtime:
            runtime.registry.register(
                AgentToolHandler(
                    tool_name="critic",
                    tool_description="Judges.",
                    system_prompt="You are a critic.",
                )
            )
            async with asyncio.timeout(PATIENCE):
                result = await run_prompt(runtime, "Go.")
        assert len(server.requests) == 7
    assert (result.text, result.status) == ("All is done.", "completed")
    assert (tmp_path / "a.txt").read_text() + (tmp_path / "b.txt").read_text() == "a\nb\n"
    assert result.usage["input_tokens"] == 70
    assert session_usage(runtime.session)["total_output_tokens"] == 7


@pytest.mark.rows("S-50", "O-10")
async def test_cancelling_a_service_hangs_up_on_the_model_of_a_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delegating = {"tool_calls": [call("delegate", instruction="Think.")], "usage": USAGE}
    faults = [None, Stall()]
    async with ModelServer([delegating], faults=faults) as server:
        monkeypatch.setenv("OPENAI_API_KEY", server.api_key)
        async with create_runtime("Help.", options=options(server, tmp_path)) as runtime:
            handle = dispatch_prompt(runtime, "Go.")
            async with asyncio.timeout(PATIENCE):
                while len(server.requests) < 2:  # noqa: ASYNC110 - the server tells nobody
                    await asyncio.sleep(0.01)
                handle.cancel("enough")
                result = await handle.wait()
                await server.requests[1].left.wait()
    assert (result.status, result.reason) == ("cancelled", "enough")
    # What the child had sent is counted, too: the service may bill it, answered or not.
    assert result.usage["input_tokens"] > 10
