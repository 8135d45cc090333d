"""Runs that are left, or whose process dies, and are continued: by another stream or a worker."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    ModelResponse,
    RuntimeRun,
    ToolCall,
    create_runtime,
    define_coordinator,
    define_planner,
    define_runtime,
    define_specialist,
    define_tenant,
    define_tool,
)
from tests.unit.runtime.orchestration.teams import (
    MODEL,
    PATIENCE,
    PROVIDERS,
    call,
    of_type,
    read,
    results,
    script,
    team,
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

GO = script(call("send", value="hello"))
VIA_LEAD = script(call("call_agent", agent="worker", prompt=GO))

STORES = ["memory:", "sqlite:{}/team.db"]


def sender(sent: list[Any], store: str = "memory:", **given: Any) -> Runtime:
    def send(args: dict[str, Any], ctx: Any) -> dict[str, Any]:
        sent.append((args["value"], ctx.idempotency_key))
        return {"sent": True}

    tool = define_tool("send", {"value": str}, approval="always").bind(send)
    return create_runtime(team(tool), interpreter="scripted", store=store, **given)


async def left(runtime: Runtime, prompt: str = VIA_LEAD, thread: str = "t-1") -> dict[str, Any]:
    """Leave a run when it asks for an approval; return that event."""
    async with asyncio.timeout(PATIENCE):
        stream = runtime.query(prompt, thread)
        async for event in stream:
            if event["type"] == "approval-required":
                break
        await stream.aclose()
    return event


async def one_run(runtime: Runtime, thread: str = "t-1") -> RuntimeRun:
    (run,) = await runtime.runs(thread)
    return run


@pytest.mark.rows("F-18", "F-24", "F-36", "F-38")
@pytest.mark.parametrize("store", STORES)
async def test_a_run_that_was_left_waits_and_is_resumed_with_the_answer(
    tmp_path: Path, store: str
) -> None:
    sent: list[Any] = []
    runtime = sender(sent, store.format(tmp_path))
    asked = await left(runtime)
    run = await one_run(runtime)
    assert (run.status, run.agent, run.prompt) == ("waiting", "lead", VIA_LEAD)
    (approval,) = await runtime.approvals()
    assert (approval.id, approval.run_id) == (asked["data"]["id"], run.run_id)
    assert (approval.agent_path, approval.payload) == ("lead/worker", {"value": "hello"})
    await runtime.respond_to_approval(approval.id, "approve", "go", by="ann")
    if store != "memory:":
        runtime = sender(sent, store.format(tmp_path))
    stream = runtime.query(None, "t-1", run)
    events = await read(stream)
    assert stream.run_id == run.run_id
    assert results(events)[0] == {"sent": True}
    assert [value for value, _ in sent] == ["hello"]
    assert not of_type(events, "approval-required")
    (decision,) = of_type(events, "approval-decision")
    assert decision["data"] == {
        "id": approval.id,
        "outcome": {"outcome": "approve"},
        "feedback": "go",
    }
    kinds = [each["type"] for each in events]
    assert kinds[0] == kinds[-1] == "tool-agent"
    assert kinds[-2] == "finish"
    assert (await one_run(runtime)).status == "finished"
    assert await runtime.approvals() == []
    assert len(await runtime.approvals(status=None)) == 1


@pytest.mark.rows("F-36", "F-38")
@pytest.mark.parametrize("outcome", ["approve", "reject", "revise"])
async def test_a_worker_continues_the_runs_whose_approvals_are_answered(outcome: Any) -> None:
    sent: list[Any] = []
    told: list[Any] = []
    ended = asyncio.Event()

    def hook(event: dict[str, Any]) -> None:
        told.append(event)
        if event["type"] == "finish":
            ended.set()

    async def hooked(event: dict[str, Any]) -> None:
        hook(event)

    async with sender(sent, event_hooks=[hooked]) as runtime:
        worker = asyncio.create_task(runtime.serve_approvals())
        asked = await left(runtime)
        await left(runtime, thread="t-2")
        await runtime.respond_to_approval(asked["data"]["id"], outcome, "so")
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
            while (await one_run(runtime)).status != "finished":  # noqa: ASYNC110 - a store
                await asyncio.sleep(0)
        assert (await one_run(runtime, "t-2")).status == "waiting"
    await asyncio.wait_for(worker, PATIENCE)
    assert len(sent) == (outcome == "approve")


@pytest.mark.rows("F-36")
async def test_an_approval_that_expires_while_nobody_works_is_a_rejection() -> None:
    sent: list[Any] = []
    async with sender(sent, approval_ttl=0.5) as runtime:
        await left(runtime)
        worker = asyncio.create_task(runtime.serve_approvals())
        async with asyncio.timeout(PATIENCE):
            while (await one_run(runtime)).status != "finished":  # noqa: ASYNC110 - a store
                await asyncio.sleep(0)
        (approval,) = await runtime.approvals(None)
    await asyncio.wait_for(worker, PATIENCE)
    assert approval.status == "expired"
    assert approval.decision is not None
    assert "nobody answered before" in str(approval.decision.feedback)
    assert sent == []


@pytest.mark.rows("F-36", "F-38")
async def test_two_processes_never_continue_the_same_run(tmp_path: Path) -> None:
    sent: list[Any] = []
    store = STORES[1].format(tmp_path)
    asked = await left(sender(sent, store))
    first, second = sender(sent, store), sender(sent, store)
    await first.respond_to_approval(asked["data"]["id"], "approve")
    run = await one_run(first)
    found = await asyncio.gather(
        read(first.query(None, "t-1", run)), read(second.query("", "t-1", run.run_id))
    )
    codes = {each[-1]["error"]["code"] for each in found if each[-1]["type"] == "error"}
    assert codes <= {"run_claimed", "not_resumable"}  # it may have finished in between
    assert len(codes) == 1
    assert len(sent) == 1
    again = await read(second.query(None, "t-1", run))
    assert "it is finished" in again[-1]["error"]["message"]


@pytest.mark.rows("F-18")
async def test_what_cannot_be_resumed_is_one_error() -> None:
    runtime = sender([])
    await left(runtime)
    run = await one_run(runtime)
    for run_id, thread in (("nonsense", "t-1"), (run.run_id, "t-2")):
        (error,) = await read(runtime.query(None, thread, run_id))
        assert error["error"]["code"] == "not_resumable"
    with pytest.raises(ValueError, match="has its prompt"):
        runtime.query("Go.", "t-1", run)
    with pytest.raises(TypeError, match="resume: give a text, not int"):
        runtime.query(None, "t-1", 5)  # type: ignore[arg-type]
    assert (await one_run(runtime)).status == "waiting"


@pytest.mark.rows("F-18", "F-36")
async def test_another_prompt_in_the_thread_ends_what_waited_there() -> None:
    sent: list[Any] = []
    runtime = sender(sent)
    asked = await left(runtime)
    await left(runtime)
    old, new = await runtime.runs("t-1")
    assert (old.status, new.status) == ("superseded", "waiting")
    (approval,) = await runtime.approvals()
    assert approval.run_id == new.run_id
    assert [each.id for each in await runtime.approvals("withdrawn")] == [asked["data"]["id"]]
    (error,) = await read(runtime.query(None, "t-1", old))
    assert "another prompt came in its thread" in error["error"]["message"]
    await runtime.respond_to_approval(approval.id, "approve")
    assert (await read(runtime.query(None, "t-1", new)))[-2]["type"] == "finish"
    assert len(sent) == 1


@pytest.mark.rows("F-18", "F-38")
async def test_a_run_that_was_cancelled_while_it_worked_is_continued_where_it_was() -> None:
    began, seen = asyncio.Event(), []

    async def slow(args: dict[str, Any], ctx: Any) -> str:
        seen.append(args["value"])
        began.set()
        if args["value"] == "b" and seen.count("b") == 1:
            await asyncio.Event().wait()
        return str(args["value"])

    tool = define_tool("slow", {"value": str}).bind(slow)
    inner = script(*(call("slow", value=each) for each in "abc"))
    runtime = create_runtime(team(tool), interpreter="scripted")
    stream = runtime.query(script(call("call_agent", agent="worker", prompt=inner)), "t-1")
    events = []
    async with asyncio.timeout(PATIENCE):
        async for event in stream:
            events.append(event)
            if event.get("args") == {"value": "b"}:
                stream.cancel()
    assert events[-1]["error"]["code"] == "cancelled"
    run = await one_run(runtime)
    assert run.status == "cancelled"
    events = await read(runtime.query(None, "t-1", run))
    assert seen == ["a", "b", "c"]  # what was cancelled is told to be, and does not run again
    assert events[-2]["type"] == "finish"


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
