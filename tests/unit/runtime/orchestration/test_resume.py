"""Runs that are left, or whose process dies, and are continued: by another stream or a worker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    create_runtime,
    define_tool,
)
from tests.unit.runtime.orchestration.leaving import STORES, VIA_LEAD, left, one_run, sender
from tests.unit.runtime.orchestration.teams import (
    PATIENCE,
    call,
    of_type,
    read,
    results,
    script,
    team,
)

if TYPE_CHECKING:
    from pathlib import Path


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
