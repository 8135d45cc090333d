"""Agents that work for each other: how deep, what they remember, and whose calls are whose."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    AgentSpec,
    ScriptedModel,
    create_runtime,
    define_coordinator,
    define_planner,
    define_runtime,
    define_specialist,
    define_tenant,
)
from tests.unit.runtime.orchestration.teams import (
    MODEL,
    PATIENCE,
    PROVIDERS,
    call,
    echo_tool,
    of_type,
    read,
    results,
    script,
    team,
)
from tests.unit.runtime.orchestration.test_plan_flow import STOCK

if TYPE_CHECKING:
    from paddock import ModelRequest


def circle() -> Any:
    """A runtime whose agents ``ping`` and ``pong`` call each other."""
    ping, pong = (
        AgentSpec(name=name, role="specialist", model=MODEL, system_prompt=name, routes=[other])
        for name, other in (("ping", "pong"), ("pong", "ping"))
    )
    spec = define_runtime(define_tenant("acme", "v1"), agents=[ping, pong], providers=PROVIDERS)
    return create_runtime(spec, interpreter="scripted")


@pytest.mark.rows("F-26")
@pytest.mark.parametrize(("levels", "fits"), [(8, True), (9, False)])
async def test_agents_are_at_most_eight_deep(levels: int, fits: bool) -> None:
    prompt = "the last one"
    for level in range(levels - 1, 0, -1):
        prompt = script(call("call_agent", agent=("ping", "pong")[level % 2], prompt=prompt))
    events = await read(circle().run_specialist("ping", prompt))
    innermost = results(events)[0]
    if fits:
        assert innermost["response"] == "the last one"
    else:
        assert "at most 8 levels deep" in innermost["error"]
    begun = [each for each in of_type(events, "tool-agent") if each["state"] == "call"]
    ended = [each for each in of_type(events, "tool-agent") if each["state"] == "result"]
    assert len(begun) == len(ended)
    assert of_type(events, "finish")


@pytest.mark.rows("F-5", "F-26")
async def test_a_stateful_agent_remembers_what_it_was_asked_in_its_thread() -> None:
    asked: list[tuple[str, list[Any]]] = []

    def turn(request: ModelRequest) -> Any:
        system, *rest = request.messages
        if system["content"] != "Lead.":
            asked.append((system["content"], [each["content"] for each in rest]))
            return {"text": "Done."}
        last = request.messages[-1]
        if last["role"] == "user":
            arguments = {"agent": "planner", "prompt": last["content"]}
            again = {"agent": "worker", "prompt": last["content"]}
            return {
                "tool_calls": [
                    {"name": "call_agent", "arguments": arguments},
                    {"name": "call_agent", "arguments": again},
                ]
            }
        return {"text": "Done."}

    spec = define_runtime(
        define_tenant("acme", "v1"),
        agents=[
            define_coordinator("lead", model=MODEL, prompt="Lead.", routes=["planner", "worker"]),
            define_planner("planner", model=MODEL, prompt="Plan.", plan=STOCK),
            define_specialist("worker", model=MODEL, prompt="Work."),
        ],
        providers=PROVIDERS,
    )
    runtime = create_runtime(spec, interpreter=ScriptedModel([turn] * 9))
    for prompt, thread in (("One", "t"), ("Two", "t"), ("Three", "other")):
        await read(runtime.query(prompt, thread_id=thread))
    assert [said for who, said in asked if who == "Plan."] == [
        ["One"],
        ["One", "Done.", "Two"],
        ["Three"],
    ]
    assert [said for who, said in asked if who == "Work."] == [["One"], ["Two"], ["Three"]]


@pytest.mark.rows("F-37")
async def test_the_gate_comes_before_the_agents_of_a_turn() -> None:
    model = ScriptedModel(
        [
            {
                "tool_calls": [
                    {"name": "call_agent", "arguments": {"agent": "worker", "prompt": "Go."}},
                    {"name": "send", "arguments": {"value": "hello"}},
                ]
            },
            {"text": "Done."},
        ]
    )

    class Both:
        """The lead's turns are those of `model`; the worker answers."""

        def stream(self, request: ModelRequest) -> Any:
            lead = request.messages[0]["content"] == "Lead."
            return (model if lead else ScriptedModel([{"text": "Gone."}])).stream(request)

        async def aclose(self) -> None:
            """Nothing is open."""

    spec = define_runtime(
        define_tenant("acme", "v1"),
        agents=[
            define_coordinator(
                "lead",
                model=MODEL,
                prompt="Lead.",
                routes=["worker"],
                tools=[echo_tool("send", "always")],
            ),
            define_specialist("worker", model=MODEL, prompt="Work."),
        ],
        providers=PROVIDERS,
    )
    runtime = create_runtime(spec, interpreter=Both())
    events = []
    async with asyncio.timeout(PATIENCE):
        async for event in runtime.query("Go", thread_id="t"):
            events.append(event)
            if event["type"] == "approval-required":
                await runtime.respond_to_approval(event["data"]["id"], "approve")
    kinds = [each["type"] for each in events]
    assert kinds.index("approval-decision") < kinds.index("data-tool-agent")
    assert of_type(events, "finish")


@pytest.mark.rows("F-37")
async def test_two_agents_may_use_the_same_call_id() -> None:
    def turn(request: ModelRequest) -> Any:
        if request.messages[-1]["role"] == "tool":
            return {"text": "Done."}
        if request.messages[0]["content"] == "Lead.":
            arguments = {"agent": "worker", "prompt": "Go."}
            return {"tool_calls": [{"id": "c", "name": "call_agent", "arguments": arguments}]}
        return {"tool_calls": [{"id": "c", "name": "echo", "arguments": {"value": "a"}}]}

    runtime = create_runtime(
        team(echo_tool("echo", "always")), interpreter=ScriptedModel([turn] * 4)
    )
    events = []
    async with asyncio.timeout(PATIENCE):
        async for event in runtime.query("Go", thread_id="t"):
            events.append(event)
            if event["type"] == "approval-required":
                await runtime.respond_to_approval(event["data"]["id"], "approve")
    calls = [each for each in of_type(events, "tool-invocation") if each["state"] == "call"]
    assert [each["toolName"] for each in calls] == ["call_agent", "echo"]
    assert len({each["toolInvocationId"] for each in calls}) == 2
    ended = {each["toolInvocationId"]: each["toolName"] for each in calls}
    for each in of_type(events, "tool-invocation"):
        assert ended[each["toolInvocationId"]] == each["toolName"]
    assert results(events)[0] == {"echo": "a"}


@pytest.mark.rows("F-26")
async def test_an_agent_that_fails_is_an_error_for_its_caller() -> None:
    def turn(request: ModelRequest) -> Any:
        if request.messages[-1]["role"] == "tool":
            return {"text": "Done."}
        if request.messages[0]["content"] == "Lead.":
            arguments = {"agent": "worker", "prompt": "Go."}
            return {"tool_calls": [{"name": "call_agent", "arguments": arguments}]}
        return {"error": "the service is on fire"}

    runtime = create_runtime(team(), interpreter=ScriptedModel([turn] * 4))
    events = await read(runtime.query("Go", thread_id="t"))
    (result,) = results(events)
    assert "the agent 'worker' did not finish" in result["error"]
    assert "the service is on fire" in result["error"]
    assert of_type(events, "finish")
