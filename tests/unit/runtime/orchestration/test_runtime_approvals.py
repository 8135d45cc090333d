"""Gated tools in a runtime's runs, and answering them."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from paddock import ApprovalError, create_runtime
from paddock.runtime.approvals.stores import MemoryApprovalStore
from paddock.runtime.core.approval import ApprovalRequest, Decision
from paddock.runtime.orchestration.approvals import ToolApprovalStore
from paddock.runtime.orchestration.define import define_tool
from tests.unit.runtime.orchestration.teams import (
    PATIENCE,
    assert_streamed,
    call,
    echo_tool,
    of_type,
    read,
    results,
    script,
    team,
)

if TYPE_CHECKING:
    from paddock.runtime.orchestration.runtime import Runtime
    from paddock.runtime.orchestration.stream import EventStream

GO = script(call("send", value="hello"))


def sending(approval: Any = "always", **given: Any) -> tuple[Runtime, list[Any]]:
    """A runtime whose worker can send, and what it has sent."""
    sent: list[Any] = []

    def send(args: dict[str, Any], ctx: Any) -> dict[str, Any]:
        sent.append(args)
        return {"sent": True}

    tool = define_tool("send", {"value": str}, approval=approval).bind(send)
    return create_runtime(team(tool), interpreter="scripted", **given), sent


async def answered(
    runtime: Runtime, stream: EventStream, outcome: Any, feedback: str | None = None, **more: Any
) -> list[dict[str, Any]]:
    """The events of `stream`, each approval of which is answered so."""
    events = []
    async with asyncio.timeout(PATIENCE):
        async for event in stream:
            events.append(event)
            if event["type"] == "approval-required":
                await runtime.respond_to_approval(event["data"]["id"], outcome, feedback, **more)
    return events


@pytest.mark.rows("F-23", "F-24")
async def test_a_gated_tool_runs_once_it_is_approved() -> None:
    runtime, sent = sending()
    stream = runtime.run_specialist("worker", GO, "thread-1")
    events = await answered(runtime, stream, "approve", "fine")
    assert_streamed(events, "mar_04_gated_tool_approved")
    assert sent == [{"value": "hello"}]


@pytest.mark.rows("F-23", "F-24")
async def test_a_gated_tool_that_is_rejected_does_not_run() -> None:
    runtime, sent = sending()
    stream = runtime.run_specialist("worker", GO, "thread-1")
    events = await answered(runtime, stream, "reject", "not now")
    assert_streamed(events, "mar_05_gated_tool_rejected")
    assert sent == []


@pytest.mark.rows("F-24")
async def test_a_tool_that_is_to_be_revised_is_rejected() -> None:
    runtime, sent = sending()
    stream = runtime.run_specialist(
        "worker", script(call("send", value="a"), call("send", value="b"))
    )
    events = await answered(runtime, stream, "revise", "say more")
    rejected = {"error": "rejected", "feedback": "say more", "retry": False}
    assert (results(events), sent) == ([rejected, rejected], [])
    assert of_type(events, "finish")
    decision = of_type(events, "approval-decision")[0]["data"]
    assert decision["outcome"] == {"outcome": "revise"}


@pytest.mark.rows("F-24")
async def test_a_tool_does_not_run_with_arguments_that_come_with_a_revision() -> None:
    runtime, sent = sending()
    with pytest.raises(ApprovalError, match="partial is for plans") as refused:
        await answered(
            runtime, runtime.run_specialist("worker", GO), "revise", partial={"value": "c"}
        )
    assert (refused.value.code, sent) == ("arguments", [])
    elsewhere = ToolApprovalStore(MemoryApprovalStore())  # which somebody else answers
    request = ApprovalRequest(
        id="a",
        call_id="1",
        tool="send",
        args={"value": "a"},
        session_id="run",
        run_id=1,
        digest="d",
        asked_at=dt.datetime.now(dt.UTC),
    )
    await elsewhere.ask(request)
    await elsewhere.resolve("a", Decision(outcome="revise", partial={"value": "c"}))
    known = await elsewhere.get("a")
    assert known is not None
    assert (await elsewhere.list())[0].decision == known.decision
    assert not (await elsewhere.wait("a")).runs


@pytest.mark.rows("F-23")
async def test_an_answer_that_cannot_be_says_why() -> None:
    runtime, _ = sending()
    codes: list[str] = []
    events = runtime.run_specialist("worker", GO)
    async for event in events:
        if event["type"] == "approval-required":
            id_ = event["data"]["id"]
            with pytest.raises(ValueError, match="'perhaps': give one of approve, reject, revise"):
                await runtime.respond_to_approval(id_, "perhaps")  # type: ignore[arg-type]
            await runtime.respond_to_approval(id_, "approve", by="ann")
            again = await runtime.respond_to_approval(id_, "approve", by="ann")
            assert (again.status, again.decision and again.decision.by) == ("answered", "ann")
            with pytest.raises(ApprovalError, match="answered already: approve by ann") as refused:
                await runtime.respond_to_approval(id_, "reject")
            codes.append(refused.value.code)
            with pytest.raises(ApprovalError) as refused:
                await runtime.respond_to_approval("nonsense", "approve")
            codes.append(refused.value.code)
    assert codes == ["answered", "unknown"]


@pytest.mark.rows("F-23", "F-36")
async def test_an_approval_that_nobody_answers_in_time_is_a_rejection() -> None:
    runtime, sent = sending(approval_ttl=0.0)
    events = await read(runtime.run_specialist("worker", GO))
    (result,) = results(events)
    assert result["error"] == "rejected"
    assert "nobody answered before" in result["feedback"]
    assert sent == []
    (approval,) = await runtime.approvals(status="expired")
    with pytest.raises(ApprovalError) as refused:
        await runtime.respond_to_approval(approval.id, "approve")
    assert refused.value.code == "expired"


@pytest.mark.rows("F-24", "F-36")
async def test_leaving_the_stream_leaves_the_approval_pending_and_nothing_else() -> None:
    runtime, sent = sending()
    before = asyncio.all_tasks()
    async for event in runtime.run_specialist("worker", GO, "thread-1"):
        if event["type"] == "approval-required":
            break
    left = asyncio.all_tasks() - before
    assert not (await asyncio.wait(left, timeout=PATIENCE))[1]
    (approval,) = await runtime.approvals()
    assert approval.id == event["data"]["id"]
    assert (approval.kind, approval.target, approval.payload) == (
        "tool",
        "send",
        {"value": "hello"},
    )
    assert (approval.agent_path, approval.digest) == ("worker", event["data"]["digest"])
    assert approval.expires_at is not None
    assert sent == []


@pytest.mark.rows("F-25")
@pytest.mark.parametrize("kind", ["sync", "async", "raises", "no bool"])
async def test_a_predicate_says_which_calls_need_an_approval(kind: str) -> None:
    asked: list[Any] = []

    def long(args: dict[str, Any], ctx: Any) -> Any:
        asked.append(dict(ctx))
        size = len(args.pop("value"))  # what it does to the arguments has no effect
        if kind == "raises":
            raise ValueError("nobody knows")
        return "no" if kind == "no bool" else size > 3

    async def later(args: dict[str, Any], ctx: Any) -> Any:
        return long(args, ctx)

    runtime, sent = sending(later if kind == "async" else long)
    prompt = script(call("send", value="hi"), call("send", value="hello"))
    events = await answered(runtime, runtime.run_specialist("worker", prompt), "approve")
    assert sent == [{"value": "hi"}, {"value": "hello"}]
    gated = [each["data"]["payload"]["value"] for each in of_type(events, "approval-required")]
    assert gated == (["hello"] if kind in ("sync", "async") else ["hi", "hello"])
    assert asked[0] == {"kind": "tool", "target": "send", "tenant": "acme", "agent": "worker"}


@pytest.mark.rows("F-26", "F-37")
async def test_an_approval_of_a_nested_agent_is_in_the_stream_with_its_path() -> None:
    runtime = create_runtime(team(echo_tool("echo", "always")), interpreter="scripted")
    inner = script(call("echo", value="hello"))
    prompt = script(call("call_agent", agent="worker", prompt=inner))
    stream = runtime.query(prompt, thread_id="thread-1")
    events = await answered(runtime, stream, "approve")
    (required,) = of_type(events, "approval-required")
    assert required["data"]["agentPath"] == "lead/worker"
    assert required["data"]["threadId"] == "thread-1"
    assert results(events)[0] == {"echo": "hello"}
