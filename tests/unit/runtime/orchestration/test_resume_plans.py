"""Flows with plans, and turns with agents, that are left and continued."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    ModelResponse,
    ToolCall,
    create_runtime,
    define_coordinator,
    define_planner,
    define_runtime,
    define_specialist,
    define_tenant,
    define_tool,
)
from tests.unit.runtime.orchestration.leaving import STORES, left, one_run
from tests.unit.runtime.orchestration.teams import (
    MODEL,
    PATIENCE,
    PROVIDERS,
    call,
    of_type,
    read,
    script,
)
from tests.unit.runtime.orchestration.test_plan_flow import (
    QUEUED,
    SKUS,
    STOCK,
    Dispatcher,
    stock_team,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from paddock import ModelRequest, Runtime


@pytest.mark.rows("F-28", "F-36", "F-37")
@pytest.mark.parametrize("store", STORES)
async def test_a_plan_that_waits_is_executed_as_it_was_shown(tmp_path: Path, store: str) -> None:
    dispatcher = Dispatcher(QUEUED)

    def opened() -> Runtime:
        return create_runtime(
            stock_team(),
            interpreter="scripted",
            action_dispatcher=dispatcher,
            store=store.format(tmp_path),
        )

    runtime = opened()
    asked = await left(runtime, planning())
    plan = asked["data"]["payload"]
    (approval,) = await runtime.approvals()
    assert (approval.kind, approval.target, approval.payload) == ("plan", "plan-1", plan)
    assert approval.agent_path == "lead/executor"
    await runtime.respond_to_approval(approval.id, "approve")
    runtime = runtime if store == "memory:" else opened()
    events = await read(runtime.query(None, "t-1", await one_run(runtime)))
    ((actions, _),) = dispatcher.seen
    assert actions == plan["actions"]
    changes = [
        (each["data"]["from"], each["data"]["to"]) for each in of_type(events, "plan-status-change")
    ]
    assert changes == [
        ("draft", "pending_approval"),
        ("pending_approval", "approved"),
        ("approved", "executing"),
        ("executing", "executed"),
    ]
    assert [each["data"]["id"] for each in of_type(events, "approval-decision")] == [approval.id]


@pytest.mark.rows("F-28", "F-36")
async def test_an_answer_about_another_revision_of_a_plan_executes_nothing() -> None:
    dispatcher = Dispatcher(QUEUED)
    runtime = create_runtime(stock_team(), interpreter="scripted", action_dispatcher=dispatcher)
    await left(runtime, planning())
    run = await one_run(runtime)
    (first,) = await runtime.approvals()
    drafting = script(
        call("storePlan", specName="StockPlan", planId="plan-1", body={"actions": [{"kind": "b"}]})
    )
    await read(
        runtime.query(script(call("call_agent", agent="planner", prompt=drafting)), thread_id="t-2")
    )
    await runtime.respond_to_approval(first.id, "approve")
    asked: list[Any] = []
    async with asyncio.timeout(PATIENCE):
        async for event in runtime.query(None, "t-1", run):
            if event["type"] == "approval-required":
                asked.append(event["data"])
                await runtime.respond_to_approval(event["data"]["id"], "reject")
    (second,) = asked
    assert second["id"] != first.id
    assert second["payload"]["actions"][0]["kind"] == "b"
    assert dispatcher.seen == []


def planning() -> str:
    """A prompt that has a plan drafted, and executed once somebody approves."""
    body = {"why": "low", "actions": [{"kind": "reorder", "sku": "s-1", "count": 5}]}
    drafting = script(
        call("search", query="low"),
        call("storePlan", specName="StockPlan", planId="plan-1", body=body),
    )
    return script(
        call("call_agent", agent="planner", prompt=drafting),
        call("call_agent", agent="executor", prompt=script(call("executePlan", planId="plan-1"))),
    )


@pytest.mark.rows("F-18", "F-28", "F-38")
async def test_a_flow_that_is_left_at_any_event_ends_with_one_execution() -> None:
    left_at = 0
    while True:
        dispatcher = Dispatcher(QUEUED)
        runtime = create_runtime(stock_team(), interpreter="scripted", action_dispatcher=dispatcher)
        ended = await approving(runtime, runtime.query(planning(), "t-1"), leave_after=left_at)
        for _ in range(2):
            run = await one_run(runtime)
            if run.status != "finished":
                await approving(runtime, runtime.query(None, "t-1", run))
        assert (await one_run(runtime)).status == "finished"
        plan = await runtime._team.plans.get("plan-1")
        assert plan is not None
        if not (plan.get("outcome") or {}).get("unknown"):
            assert (plan["status"], len(dispatcher.seen)) == ("executed", 1)
        assert len(dispatcher.seen) <= 1
        assert {each.status for each in await runtime.approvals(None)} == {"answered"}
        if ended:
            break
        left_at += 1
    assert left_at > 20


async def approving(runtime: Runtime, stream: Any, leave_after: int | None = None) -> bool:
    """Read `stream` and approve all, but leave it after some events; return whether it ended."""
    number = 0
    async with asyncio.timeout(PATIENCE), contextlib.aclosing(stream) as events:
        async for event in events:
            if number == leave_after:
                return False
            number += 1
            if event["type"] == "approval-required":
                await runtime.respond_to_approval(event["data"]["id"], "approve")
    return True


class Turns:
    """A model that says what `answer` returns, given how many answers a conversation has."""

    def __init__(self, answer: Callable[[ModelRequest], ModelResponse]) -> None:
        self._answer = answer

    async def stream(self, request: ModelRequest) -> AsyncIterator[Any]:
        yield self._answer(request)

    async def aclose(self) -> None:
        """Nothing is open."""


@pytest.mark.rows("F-37")
async def test_of_a_turn_with_a_gated_call_and_an_agent_the_gate_comes_first() -> None:
    order: list[str] = []

    def answer(request: ModelRequest) -> ModelResponse:
        if "Lead." not in str(request.messages[0]["content"]):
            order.append("agent")
            return ModelResponse(text="I worked.")
        if request.messages[-1]["role"] == "tool":
            return ModelResponse(text="Done.")
        return ModelResponse(
            tool_calls=(
                ToolCall(id="1", name="call_agent", arguments='{"agent": "w", "prompt": "Go."}'),
                ToolCall(id="2", name="send", arguments='{"value": "x"}'),
            )
        )

    def send(args: dict[str, Any], ctx: Any) -> str:
        order.append("send")
        return "sent"

    spec = define_runtime(
        define_tenant("acme", "v1"),
        agents=[
            define_coordinator(
                "lead",
                model=MODEL,
                prompt="Lead.",
                routes=["w"],
                tools=[define_tool("send", {"value": str}, approval="always").bind(send)],
            ),
            define_specialist("w", model=MODEL, prompt="Work."),
        ],
        providers=PROVIDERS,
    )
    runtime = create_runtime(spec, interpreter=Turns(answer))
    async with asyncio.timeout(PATIENCE):
        async for event in runtime.query("Go.", "t-1"):
            if event["type"] == "approval-required":
                order.append("asked")
                break
    assert order == ["asked"]
    (approval,) = await runtime.approvals()
    await runtime.respond_to_approval(approval.id, "approve")
    async with asyncio.timeout(PATIENCE):
        while (run := await one_run(runtime)).status != "waiting":  # noqa: ASYNC110 - a store
            await asyncio.sleep(0)
    events = await read(runtime.query(None, "t-1", run))
    assert order == ["asked", "agent", "send"]
    assert events[-2]["type"] == "finish"


@pytest.mark.rows("F-26")
async def test_a_planner_remembers_what_it_did_in_the_thread() -> None:
    counted: list[int] = []

    def answer(request: ModelRequest) -> ModelResponse:
        if "Lead." in str(request.messages[0]["content"]):
            if request.messages[-1]["role"] == "tool":
                return ModelResponse(text="Done.")
            arguments = '{"agent": "planner", "prompt": "Plan."}'
            return ModelResponse(
                tool_calls=(ToolCall(id="1", name="call_agent", arguments=arguments),)
            )
        counted.append(len([each for each in request.messages if each["role"] == "user"]))
        return ModelResponse(text="Planned.")

    spec = define_runtime(
        define_tenant("acme", "v1"),
        agents=[
            define_coordinator("lead", model=MODEL, prompt="Lead.", routes=["planner"]),
            define_planner("planner", model=MODEL, prompt="Plan.", plan=STOCK),
        ],
        references=[SKUS],
        providers=PROVIDERS,
    )
    runtime = create_runtime(spec, interpreter=Turns(answer))
    for thread in ("t-1", "t-1", "t-2"):
        await read(runtime.query("Go.", thread))
    assert counted == [1, 2, 1]
