"""Sessions that are cancelled, at any moment and in any way, or closed."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import TYPE_CHECKING, cast

import pytest

from paddock.errors import TraceWriteError
from paddock.runtime.core.cancellation import CancellationToken
from tests.unit.runtime.conftest import let_run_at_once
from tests.unit.runtime.stuck import PATIENCE, Hanging, Stuck, call, until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from paddock.runtime.conversation.results import AgentEvent
    from paddock.runtime.core.context import RunContext
    from paddock.runtime.core.model import Message
    from tests.unit.runtime.conftest import CountingBackend, Function, OpenSession

    CheckHistory = Callable[[Sequence[Message]], None]


@pytest.mark.rows("S-21")
async def test_cancel_works_awaited_and_not(open_session: OpenSession) -> None:
    session = open_session([], client=Stuck())
    session.cancel()
    await session.cancel()
    for awaited in (True, False):
        model = Stuck()
        session = open_session([], client=model)
        run = asyncio.create_task(session.run(prompt="Go."))
        await until(model.speaking)
        ending = session.cancel()
        if awaited:
            await ending
            assert run.done() or session.state.status == "cancelled"
        result = await asyncio.wait_for(run, PATIENCE)
        assert result.status == session.state.status == "cancelled"
        assert result.events[-1].content == "Cancelled during model response"
        assert result.text == "Well"
        assert model.open == 0


@pytest.mark.rows("S-21")
async def test_cancelling_ends_the_tools_and_gives_their_calls_results(
    open_session: OpenSession, check_history: CheckHistory, tmp_path: Path
) -> None:
    hang = Hanging()

    def quick() -> str:
        return "quick"

    turns = [{"tool_calls": [call("hang"), call("quick")]}]
    session = open_session(turns, cast("Function", hang), quick, session_dir=tmp_path)
    let_run_at_once(session)
    run = asyncio.create_task(session.run(prompt="Go."))
    await until(hang.working)
    await session.cancel("enough")
    result = await run
    assert hang.ended
    assert result.events[-1].content == "Cancelled during tool execution"
    told = [message["content"] for message in session.state.messages if message["role"] == "tool"]
    assert "Cancelled while it ran" in told[0]
    assert told[1] == "quick"
    check_history(session.state.messages)
    trace = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    assert trace[-1]["status"] == "cancelled"
    assert [line["reason"] for line in trace if line["type"] == "cancelled"] == ["enough"]
    assert not (tmp_path / "cancel").exists()


async def test_a_token_cancels_from_another_thread(open_session: OpenSession) -> None:
    model, token = Stuck(), CancellationToken()
    session = open_session([], client=model)
    run = asyncio.create_task(session.run(prompt="Go.", token=token))
    await until(model.speaking)
    await asyncio.to_thread(token.cancel, "deadline")
    assert (await asyncio.wait_for(run, PATIENCE)).status == "cancelled"
    assert token.reason == "deadline"


async def test_cancelling_one_session_leaves_others_of_the_same_token_alone(
    open_session: OpenSession,
) -> None:
    token = CancellationToken()
    models = [Stuck(), Stuck()]
    sessions = [open_session([], client=model) for model in models]
    runs = [asyncio.create_task(each.run(prompt="Go.", token=token)) for each in sessions]
    for model in models:
        await until(model.speaking)
    await sessions[0].cancel()
    assert not token.is_cancelled()
    assert not runs[1].done()
    token.cancel()
    assert {(await run).status for run in runs} == {"cancelled"}


async def test_a_token_that_was_cancelled_before_stops_the_run_before_the_model(
    open_session: OpenSession,
) -> None:
    token = CancellationToken()
    token.cancel()
    result = await open_session([{"text": "x"}]).run(prompt="Go.", token=token)
    assert [event.content for event in result.events] == ["Cancelled before model call"]


@pytest.mark.rows("S-21")
async def test_cancelling_leaves_the_cancel_file_to_whoever_else_looks_until_the_run_has_ended(
    open_session: OpenSession, tmp_path: Path
) -> None:
    model = Stuck()
    session = open_session([], client=model, session_dir=tmp_path)
    run = asyncio.create_task(session.run(prompt="Go."))
    await until(model.speaking)
    ending = session.cancel()
    assert (tmp_path / "cancel").exists()
    await ending
    assert (await run).status == "cancelled"
    assert not (tmp_path / "cancel").exists()
    await session.cancel()
    assert not (tmp_path / "cancel").exists(), "nothing runs that it could stop"


@pytest.mark.rows("S-38")
async def test_the_cancel_file_stops_a_run_and_is_gone_for_the_next(
    open_session: OpenSession, tmp_path: Path
) -> None:
    (tmp_path / "cancel").touch()  # left over
    model = Stuck()
    session = open_session([], client=model, session_dir=tmp_path)
    run = asyncio.create_task(session.run(prompt="Go."))
    await until(model.speaking)
    (tmp_path / "cancel").touch()
    assert (await asyncio.wait_for(run, PATIENCE)).status == "cancelled"
    assert not (tmp_path / "cancel").exists()


async def test_a_cancelled_task_raises_and_leaves_a_valid_history(
    open_session: OpenSession, check_history: CheckHistory
) -> None:
    hang = Hanging()
    session = open_session([{"tool_calls": [call("hang")]}], cast("Function", hang))
    run = asyncio.create_task(session.run(prompt="Go."))
    await until(hang.working)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert hang.ended
    assert session.state.status == "cancelled"
    check_history(session.state.messages)


async def test_a_timeout_around_a_run_is_a_timeout(open_session: OpenSession) -> None:
    model = Stuck()
    session = open_session([], client=model)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await session.run(prompt="Go.")
    assert session.state.status == "cancelled"
    assert model.open == 0


async def test_an_event_callback_may_await_the_cancellation(open_session: OpenSession) -> None:
    session = open_session([{"text": "a b c d"}])

    async def show(event: AgentEvent) -> None:
        await session.cancel()

    result = await asyncio.wait_for(session.run(prompt="Go.", on_event=show), PATIENCE)
    assert result.status == "cancelled"


async def test_a_tool_that_ignores_its_cancellation_does_not_hold_the_run(
    open_session: OpenSession, check_history: CheckHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddock.runtime.core.execution.CANCEL_TIMEOUT", 0.01)
    working, leave = asyncio.Event(), asyncio.Event()

    async def stubborn() -> str:
        working.set()
        while not leave.is_set():
            try:
                await leave.wait()
            except asyncio.CancelledError:
                continue
        return "at last"

    session = open_session([{"tool_calls": [call("stubborn")]}], stubborn)
    run = asyncio.create_task(session.run(prompt="Go."))
    await until(working)
    session.cancel()
    assert (await asyncio.wait_for(run, PATIENCE)).status == "cancelled"
    check_history(session.state.messages)
    leave.set()


async def test_a_result_that_a_tool_gives_while_it_is_cancelled_is_kept(
    open_session: OpenSession, check_history: CheckHistory
) -> None:
    working = asyncio.Event()

    async def careful() -> str:
        working.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "put away"
        return "never"

    session = open_session([{"tool_calls": [call("careful")]}], careful)
    run = asyncio.create_task(session.run(prompt="Go."))
    await until(working)
    await session.cancel()
    assert (await run).status == "cancelled"
    assert session.state.messages[-1]["content"] == "put away"
    check_history(session.state.messages)


async def test_the_models_stream_is_closed_before_a_failed_run_returns(
    open_session: OpenSession,
) -> None:
    def show(event: AgentEvent) -> None:
        raise KeyError("display")

    model = Stuck()
    session = open_session([], client=model)
    with pytest.raises(KeyError):
        await session.run(prompt="Go.", on_event=show)
    assert model.open == 0


async def test_closing_a_session_cancels_its_run(
    open_session: OpenSession, check_history: CheckHistory
) -> None:
    model = Stuck()
    session = open_session([], client=model)
    run = asyncio.create_task(session.run(prompt="Go."))
    await until(model.speaking)
    await session.close()
    assert (await run).status == "cancelled"
    assert model.open == 0


async def test_a_session_whose_directory_is_gone_is_still_closed_and_its_run_fails(
    open_session: OpenSession, backend: CountingBackend, tmp_path: Path
) -> None:
    tool = Hanging()

    async def wait(context: RunContext[None]) -> str:
        await context.sandbox()
        return await tool()

    session = open_session([{"tool_calls": [call("wait")]}], wait, session_dir=tmp_path / "one")
    task = asyncio.create_task(session.run("Go."))
    async with asyncio.timeout(PATIENCE):
        await tool.working.wait()
        shutil.rmtree(tmp_path / "one")
        await session.close()
        assert not backend.live
        with pytest.raises(TraceWriteError):
            await task


async def test_closing_waits_for_a_run_that_is_ending(open_session: OpenSession) -> None:
    tool = Hanging()
    ending, go_on = asyncio.Event(), asyncio.Event()

    async def show(event: AgentEvent) -> None:
        if event.type == "cancelled":
            ending.set()
            await go_on.wait()

    session = open_session([{"tool_calls": [call("hang")]}], tool)
    task = asyncio.create_task(session.run("Go.", on_event=show))
    async with asyncio.timeout(PATIENCE):
        await tool.working.wait()
        session.cancel()
        await ending.wait()
        closing = asyncio.create_task(session.close())
        for _ in range(50):
            await asyncio.sleep(0)
        assert not closing.done()
        go_on.set()
        await closing
        assert (await task).status == "cancelled"


async def test_a_callback_that_fails_at_the_end_does_not_swallow_the_cancellation(
    open_session: OpenSession,
) -> None:
    tool = Hanging()

    def show(event: AgentEvent) -> None:
        if event.type == "cancelled":
            raise ValueError("no screen")

    session = open_session([{"tool_calls": [call("hang")]}], tool)
    task = asyncio.create_task(session.run("Go.", on_event=show))
    await until(tool.working)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert "no screen" in repr(caught.value.__cause__)
