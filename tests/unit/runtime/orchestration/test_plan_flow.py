"""A coordinator has a plan drafted, approved and executed: the documented streams."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    create_runtime,
    define_coordinator,
    define_executor,
    define_plan,
    define_planner,
    define_reference,
    define_runtime,
    define_tenant,
    define_tool,
)
from tests.unit.runtime.orchestration.teams import (
    MODEL,
    PATIENCE,
    PROVIDERS,
    assert_streamed,
    call,
    of_type,
    read,
    results,
    script,
)

if TYPE_CHECKING:
    from paddock import Runtime, RuntimeSpec

SKUS = define_reference("SkuSet", {"type": "array", "items": {"type": "string"}})
STOCK = define_plan(
    "StockPlan",
    {
        "type": "object",
        "properties": {"why": {"type": "string"}, "actions": {"type": "array"}},
        "required": ["actions"],
    },
)


def stock_team(**of_executor: Any) -> RuntimeSpec:
    async def search(args: dict[str, Any], ctx: Any) -> Any:
        return await ctx.references.create(SKUS, ["s-1"])

    tool = define_tool("search", {"query": str}).bind(search)
    return define_runtime(
        define_tenant("acme", "v1"),
        agents=[
            define_coordinator("lead", model=MODEL, prompt="Lead.", routes=["planner", "executor"]),
            define_planner("planner", model=MODEL, prompt="Plan.", plan=STOCK, tools=[tool]),
            define_executor("executor", model=MODEL, prompt="Do.", plan=STOCK, **of_executor),
        ],
        references=[SKUS],
        providers=PROVIDERS,
    )


@dataclass
class Dispatcher:
    """Notes what it was given, and returns `value`."""

    value: Any
    seen: list[Any] = field(default_factory=list)

    def __call__(self, actions: Any, ctx: Any) -> Any:
        self.seen.append((actions, ctx))
        return self.value


QUEUED = {"entitiesAffected": 1, "summary": "queued 1", "details": {"order": "o-1"}}


def plan_flow(action: Any) -> str:
    """The prompt that has a plan with this action drafted and executed."""
    body = {"why": "stock is low", "actions": [action]}
    planning = script(
        call("search", query="low"),
        call("storePlan", specName="StockPlan", planId="plan-1", body=body),
    )
    return script(
        call("call_agent", agent="planner", prompt=planning),
        call("call_agent", agent="executor", prompt=script(call("executePlan", planId="plan-1"))),
    )


async def carried_out(
    runtime: Runtime, outcome: Any, feedback: str | None = None, **more: Any
) -> list[dict[str, Any]]:
    """The events of a query that has a plan drafted and executed, answered so."""
    reference = await runtime.create_reference(SKUS, ["s-1"])
    named = {"kind": "SkuSet", "id": reference["id"]}
    action = {"kind": "reorder", "sku": "s-1", "count": 5, "references": [named]}
    prompt = plan_flow(action)
    events = []
    async with asyncio.timeout(PATIENCE):
        async for event in runtime.query(prompt, thread_id="thread-1"):
            events.append(event)
            if event["type"] == "approval-required":
                await runtime.respond_to_approval(event["data"]["id"], outcome, feedback, **more)
    return events


@pytest.mark.rows("F-26", "F-27", "F-28", "F-29", "F-37")
async def test_a_plan_that_is_approved_is_executed_once() -> None:
    dispatcher = Dispatcher(QUEUED)
    runtime = create_runtime(stock_team(), interpreter="scripted", action_dispatcher=dispatcher)
    events = await carried_out(runtime, "approve", "go")
    assert_streamed(events, "mar_06_plan_flow")
    (required,) = of_type(events, "approval-required")
    assert required["data"]["agentPath"] == "lead/executor"
    ((actions, context),) = dispatcher.seen
    assert actions[0]["payload"] == {"sku": "s-1", "count": 5}
    reference = actions[0]["references"][0]
    assert context["resolved_refs"] == {"SkuSet": {reference["id"]: ["s-1"]}}
    again = await read(
        runtime.query(
            script(
                call(
                    "call_agent",
                    agent="executor",
                    prompt=script(call("executePlan", planId="plan-1")),
                )
            ),
            thread_id="thread-1",
        )
    )
    assert results(again)[0] == results(events)[-2]
    assert len(dispatcher.seen) == 1


@pytest.mark.rows("F-28")
async def test_a_plan_that_is_rejected_stays_a_draft() -> None:
    dispatcher = Dispatcher(QUEUED)
    runtime = create_runtime(stock_team(), interpreter="scripted", action_dispatcher=dispatcher)
    events = await carried_out(runtime, "reject", "too many")
    assert_streamed(events, "mar_07_plan_rejected")
    assert dispatcher.seen == []


@pytest.mark.rows("F-28")
async def test_a_plan_that_is_to_be_revised_comes_back_with_what_to_change() -> None:
    dispatcher = Dispatcher(QUEUED)
    runtime = create_runtime(stock_team(), interpreter="scripted", action_dispatcher=dispatcher)
    events = await carried_out(runtime, "revise", "only 3", partial={"count": 3})
    assert_streamed(events, "mar_08_plan_revise")
    assert dispatcher.seen == []


@pytest.mark.rows("F-29")
async def test_a_dispatcher_that_returns_nonsense_fails_the_plan() -> None:
    runtime = create_runtime(
        stock_team(), interpreter="scripted", action_dispatcher=Dispatcher({"affected": "many"})
    )
    events = await carried_out(runtime, "approve", "go")
    assert_streamed(events, "mar_09_dispatcher_returns_nonsense")
    assert "entitiesAffected" in results(events)[-2]["error"]


@pytest.mark.rows("F-13", "F-28")
async def test_a_plan_without_a_gate_is_approved_at_once() -> None:
    runtime = create_runtime(
        stock_team(approval={"plans": "never"}),
        interpreter="scripted",
        action_dispatcher=Dispatcher(QUEUED),
    )
    events = await carried_out(runtime, "approve")
    changes = [
        (each["data"]["from"], each["data"]["to"]) for each in of_type(events, "plan-status-change")
    ]
    assert changes == [("draft", "approved"), ("approved", "executing"), ("executing", "executed")]
    assert not of_type(events, "approval-required")


@pytest.mark.rows("F-31")
async def test_an_executor_reads_references() -> None:
    runtime = create_runtime(stock_team(), interpreter="scripted")
    made = await runtime.create_reference("SkuSet", ["s-1"], glimpse={"count": 1})
    assert await runtime.resolve_reference(made) == ["s-1"]
    assert await runtime.reference_glimpse(made) == {"count": 1}
    named = {"kind": "SkuSet", "id": made["id"]}
    reading = script(call("resolveRef", **named), call("glimpseRef", **named))
    prompt = script(call("call_agent", agent="executor", prompt=reading))
    events = await read(runtime.query(prompt, thread_id="thread-1"))
    resolved, glimpsed, _ = results(events)
    assert resolved == {**named, "value": ["s-1"]}
    assert glimpsed == {**named, "glimpse": {"count": 1}}
