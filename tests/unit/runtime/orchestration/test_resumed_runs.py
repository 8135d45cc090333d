"""Runs that were left, and are continued by another runtime over the same store."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock import create_runtime, define_tool, open_store
from tests.unit.runtime.orchestration.teams import (
    PATIENCE,
    call,
    echo_tool,
    of_type,
    read,
    results,
    script,
    team,
)
from tests.unit.runtime.orchestration.test_plan_flow import (
    QUEUED,
    Dispatcher,
    plan_flow,
    stock_team,
)

if TYPE_CHECKING:
    from paddock import EventStream, Runtime


async def left_waiting(stream: EventStream) -> tuple[str, list[dict[str, Any]]]:
    """Leave `stream` at its first approval; return the approval's id, and the events so far."""
    events = []
    async with asyncio.timeout(PATIENCE):
        async for event in stream:
            events.append(event)
            if event["type"] == "approval-required":
                break
        await stream.aclose()
    return events[-1]["data"]["id"], events


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:{tmp_path / 'team.db'}"


class Office:
    """Makes runtimes over one store; `done` is what their tools have done."""

    def __init__(self, store: str) -> None:
        self.store = store
        self.done: list[Any] = []
        self.keys: set[str] = set()

    def open(self, **given: Any) -> Runtime:
        def tool(name: str, approval: Any) -> Any:
            def work(args: dict[str, Any], ctx: Any) -> Any:
                self.done.append((name, args["value"]))
                self.keys.add(ctx.idempotency_key)
                return {name: args["value"]}

            return define_tool(name, {"value": str}, approval=approval).bind(work)

        spec = team(tool("look", "never"), tool("send", "always"))
        return create_runtime(spec, **{"interpreter": "scripted", "store": self.store} | given)


LOOK_AND_SEND = script(call("look", value="a"), call("send", value="b"), call("look", value="c"))
ASK_WORKER = script(
    call("call_agent", agent="worker", prompt=LOOK_AND_SEND),
    call("call_agent", agent="worker", prompt=script(call("look", value="d"))),
)


@pytest.mark.rows("F-18", "F-36", "F-37", "F-38")
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("answered", ["before", "after"])
async def test_a_run_that_was_left_at_an_approval_is_continued_and_does_nothing_twice(
    store: str, nested: bool, answered: str
) -> None:
    office = Office(store)
    async with office.open() as runtime:
        if nested:
            stream = runtime.query(ASK_WORKER, thread_id="t")
        else:
            stream = runtime.run_specialist("worker", LOOK_AND_SEND, "t")
        approval_id, _ = await left_waiting(stream)
    assert office.done == [("look", "a")]
    async with office.open() as runtime:
        (run,) = await runtime.runs("t")
        assert (run.run_id, run.status) == (stream.run_id, "waiting")
        (waiting,) = await runtime.approvals()
        assert (waiting.id, waiting.run_id) == (approval_id, run.run_id)
        assert waiting.agent_path == ("lead/worker" if nested else "worker")
        if answered == "before":
            await runtime.respond_to_approval(approval_id, "approve")
        events = []
        async with asyncio.timeout(PATIENCE):
            async for event in runtime.query(None, "t", resume=run):
                events.append(event)
                if event["type"] == "approval-required":
                    assert answered == "after"
                    assert event["data"]["id"] == approval_id
                    await runtime.respond_to_approval(approval_id, "approve")
        assert of_type(events, "finish")
        wanted = [("look", "a"), ("send", "b"), ("look", "c"), ("look", "d")]
        assert office.done == (wanted if nested else wanted[:3])
        assert len(office.keys) == len(office.done)
        assert [each.status for each in await runtime.runs("t")] == ["finished"]
        assert list(await runtime.approvals()) == []
        (event,) = await read(runtime.query(None, "t", resume=run.run_id))
        assert event["error"]["code"] == "not_resumable"
    ids = [
        each["toolInvocationId"]
        for each in of_type(events, "tool-invocation")
        if each["state"] == "call"
    ]
    assert len(set(ids)) == len(ids)


@pytest.mark.rows("F-28", "F-36", "F-37")
async def test_the_approval_of_a_plan_survives_its_process(store: str) -> None:
    dispatcher = Dispatcher(QUEUED)

    def open_runtime() -> Runtime:
        return create_runtime(
            stock_team(), interpreter="scripted", action_dispatcher=dispatcher, store=store
        )

    prompt = plan_flow({"kind": "reorder", "sku": "s-1"})
    async with open_runtime() as runtime:
        approval_id, _ = await left_waiting(runtime.query(prompt, thread_id="t"))
    async with open_runtime() as runtime:
        (waiting,) = await runtime.approvals()
        assert (waiting.id, waiting.kind, waiting.target) == (approval_id, "plan", "plan-1")
        (run,) = await runtime.runs()
        await runtime.respond_to_approval(approval_id, "approve", by="ann")
        events = await read(runtime.query("", "t", resume=run.run_id))
    assert len(dispatcher.seen) == 1
    assert results(events)[0]["status"] == "executed"


@pytest.mark.rows("F-18")
async def test_another_prompt_in_the_thread_ends_what_waited_there(store: str) -> None:
    office = Office(store)
    async with office.open() as runtime:
        approval_id, _ = await left_waiting(runtime.query(ASK_WORKER, thread_id="t"))
        await read(runtime.query("Forget it.", thread_id="t"))
        first, second = await runtime.runs("t")
        assert (first.status, second.status) == ("superseded", "finished")
        assert list(await runtime.approvals()) == []
        (event,) = await read(runtime.query(None, "t", resume=first))
        assert event["error"]["code"] == "not_resumable"
    assert office.done == [("look", "a")]
    assert approval_id


@pytest.mark.rows("F-18")
async def test_what_cannot_be_resumed_is_one_error_or_refused(store: str) -> None:
    office = Office(store)
    async with office.open() as runtime:
        (event,) = await read(runtime.query(None, "t", resume="nonsense"))
        assert event["error"] == {"message": "there is no run 'nonsense'", "code": "not_resumable"}
        with pytest.raises(ValueError, match="give None"):
            runtime.query("Hi", "t", resume="nonsense")
        with pytest.raises(TypeError):
            runtime.query(None, "t")
        stream = runtime.run_specialist("worker", LOOK_AND_SEND, "t")
        await left_waiting(stream)
        (event,) = await read(runtime.query(None, "other", resume=stream.run_id))
        assert "is of thread 't'" in event["error"]["message"]
        assert [each.status for each in await runtime.runs()] == ["waiting"]


@pytest.mark.rows("F-38")
async def test_a_tool_that_began_before_the_run_was_left_is_not_run_again(store: str) -> None:
    begun = asyncio.Event()
    calls: list[Any] = []

    async def work(args: dict[str, Any], ctx: Any) -> Any:
        calls.append(args)
        begun.set()
        await asyncio.Event().wait()

    inner = script(call("echo", value="a"))
    prompt = script(call("call_agent", agent="worker", prompt=inner))
    spec = team(echo_tool().bind(work))
    async with create_runtime(spec, interpreter="scripted", store=store) as runtime:
        stream = runtime.query(prompt, thread_id="t")
        reading = asyncio.create_task(read(stream))
        await asyncio.wait_for(begun.wait(), PATIENCE)
        await stream.cancel()
        assert (await reading)[-1]["error"]["code"] == "cancelled"
        assert [each.status for each in await runtime.runs()] == ["cancelled"]
        events = await read(runtime.query(None, "t", resume=stream.run_id))
    assert len(calls) == 1
    assert of_type(events, "finish")


@pytest.mark.rows("F-38")
async def test_a_call_whose_process_died_is_in_the_stream_as_unknown(store: str) -> None:
    def program(db: str) -> str:
        return f"""
import asyncio, os
from paddock import create_runtime
from tests.unit.runtime.orchestration.test_resumed_runs import dying
from tests.unit.runtime.orchestration.teams import read

async def main():
    runtime, prompt = dying({db!r}, lambda args, ctx: os.kill(os.getpid(), 9))
    await read(runtime.query(prompt, "t"))

asyncio.run(main())
"""

    died = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program(store), cwd=Path(__file__).parents[4]
    )
    assert await asyncio.wait_for(died.wait(), PATIENCE) == -9
    calls: list[Any] = []
    runtime, _ = dying(store, lambda args, ctx: calls.append(args))
    async with runtime:
        (run,) = await runtime.runs()
        assert run.status == "died"
        events = await read(runtime.query(None, "t", resume=run))
    lost = [each for each in of_type(events, "tool-invocation") if each["toolName"] == "echo"]
    assert [(each["state"], each["args"]["value"]) for each in lost] == [
        ("call", "a"),
        ("result", "a"),
        ("call", "b"),
        ("result", "b"),
    ]
    assert "It may have had its effect" in lost[1]["result"]["error"]
    assert calls == [{"value": "b"}]


def dying(store: str, handler: Any) -> tuple[Runtime, str]:
    """A runtime whose worker has `handler` for its tool, and a prompt that has it called twice."""
    spec = team(echo_tool().bind(handler))
    inner = script(call("echo", value="a"), call("echo", value="b"))
    prompt = script(call("call_agent", agent="worker", prompt=inner))
    return create_runtime(spec, interpreter="scripted", store=store), prompt


@pytest.mark.rows("F-14", "F-36")
async def test_two_runtimes_may_share_a_store_which_stays_open() -> None:
    shared, office = open_store("memory:"), Office("memory:")
    async with office.open(store=shared) as first, office.open(store=shared) as second:
        stream = first.run_specialist("worker", LOOK_AND_SEND, "t")
        approval_id, _ = await left_waiting(stream)
        await first.aclose()
        await second.respond_to_approval(approval_id, "reject")
        events = await read(second.query(None, "t", resume=stream.run_id))
    assert of_type(events, "finish")
    assert office.done == [("look", "a"), ("look", "c")]


@pytest.mark.rows("F-18", "F-28", "F-38")
@pytest.mark.parametrize("last", [1, 4, 8, 10, 12, 14, 16, 18, 20, 22, 24, 27, 29])
async def test_a_stream_may_be_left_at_any_event(last: int) -> None:
    before = asyncio.all_tasks()
    dispatcher = Dispatcher(QUEUED)
    runtime = create_runtime(stock_team(), interpreter="scripted", action_dispatcher=dispatcher)
    await followed(runtime, runtime.query(plan_flow({"kind": "reorder"}), "t"), last)
    assert asyncio.all_tasks() == before
    (run,) = await runtime.runs()
    if run.status == "waiting":
        events = await followed(runtime, runtime.query(None, "t", resume=run))
        assert of_type(events, "finish")
        assert [each.status for each in await runtime.runs()] == ["finished"]
    assert list(await runtime.approvals()) == []
    assert len(dispatcher.seen) <= 1
    assert asyncio.all_tasks() == before


async def followed(
    runtime: Runtime, stream: EventStream, last: int | None = None
) -> list[dict[str, Any]]:
    """The first events of `stream`, up to number `last`, whose approvals are given."""
    events: list[dict[str, Any]] = []
    async with asyncio.timeout(PATIENCE):
        async for event in stream:
            events.append(event)
            if event["type"] == "approval-required":
                await runtime.respond_to_approval(event["data"]["id"], "approve")
            if len(events) == last:
                break
        await stream.aclose()
    return events


@pytest.mark.rows("F-1", "F-36")
async def test_two_tenants_see_nothing_of_each_other(store: str) -> None:
    office = Office(store)
    async with office.open() as ours:
        approval_id, _ = await left_waiting(ours.query(ASK_WORKER, thread_id="t"))
        spec = ours.spec.model_copy(
            update={"tenant": ours.spec.tenant.model_copy(update={"resource_id": "evil"})}
        )
        async with create_runtime(spec, interpreter="scripted", store=store) as theirs:
            assert list(await theirs.approvals()) == []
            assert list(await theirs.runs()) == []
            with pytest.raises(RuntimeError) as refused:
                await theirs.respond_to_approval(approval_id, "approve")
            assert getattr(refused.value, "code", None) == "unknown"
            (event,) = await read(theirs.query(None, "t", resume=(await ours.runs())[0].run_id))
            assert event["error"]["code"] == "not_resumable"
        assert [each.id for each in await ours.approvals()] == [approval_id]
