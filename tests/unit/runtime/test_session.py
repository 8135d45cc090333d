"""Sessions: cancelling at any moment, one sandbox, other people's files, compaction."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from paddock.errors import SessionError, SessionLocked, TraceWriteError
from paddock.runtime.cancellation import CancellationToken
from paddock.runtime.models.base import ModelRequest, ModelResponse, TextDelta
from paddock.runtime.session import Session
from paddock.runtime.state import State
from paddock.runtime.trace import TraceContent, read_records

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from paddock.runtime.models.base import Message, ModelEvent
    from paddock.runtime.results import AgentEvent
    from paddock.runtime.tools.base import ToolContext
    from tests.unit.runtime.conftest import CountingBackend, Function, OpenSession

    CheckHistory = Callable[[Sequence[Message]], None]

PATIENCE = 10
"""Seconds that something which has to happen may take on a busy machine."""


def call(tool: str, /, **arguments: Any) -> dict[str, Any]:
    return {"name": tool, "arguments": arguments}


class Stuck:
    """A model that says a word and then nothing; knows whether its stream was closed."""

    def __init__(self) -> None:
        self.speaking = asyncio.Event()
        self.open = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.open += 1
        try:
            yield TextDelta(text="Well")
            self.speaking.set()
            await asyncio.Event().wait()
            yield ModelResponse(text="never")
        finally:
            self.open -= 1

    async def aclose(self) -> None:
        """Nothing is open."""


class Hanging:
    """A tool that works until it is cancelled."""

    def __init__(self) -> None:
        self.working = asyncio.Event()
        self.ended = False

    async def __call__(self) -> str:
        self.working.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = True
        return "never"

    __name__ = "hang"


async def until(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), PATIENCE)


def begins(session: Session) -> asyncio.Event:
    """Set when the session's next run has begun."""

    class Observer:
        def on_event(self, event: dict[str, Any]) -> None:
            begun.set()

    begun = asyncio.Event()
    session.state.add_observer(Observer())
    return begun


# Conversations


@pytest.mark.rows("S-20")
async def test_later_runs_know_the_earlier_ones(open_session: OpenSession) -> None:
    requests: list[ModelRequest] = []

    def answer(request: ModelRequest) -> dict[str, str]:
        requests.append(request)
        return {"text": f"answer {len(requests)}"}

    session = open_session([answer, answer])
    assert (await session.run(prompt="One.")).text == "answer 1"
    assert (await session.run(prompt="Two.")).text == "answer 2"
    said = [(message["role"], message["content"]) for message in requests[1].messages[1:]]
    assert said == [("user", "One."), ("assistant", "answer 1"), ("user", "Two.")]


async def test_a_session_does_one_thing_at_a_time(open_session: OpenSession) -> None:
    model = Stuck()
    session = open_session([], client=model)
    first = asyncio.create_task(session.run(prompt="Go."))
    await until(model.speaking)
    with pytest.raises(SessionError, match="busy"):
        await session.run(prompt="Again.")
    with pytest.raises(SessionError, match="busy"):
        await session.compact()
    await session.cancel()
    assert (await first).status == "cancelled"


# Cancellation


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


@pytest.mark.parametrize(
    ("polls", "where"),
    [
        (1, "before model call"),
        (2, "during model response"),
        (3, "before tool execution"),
        (4, "before model call"),
    ],
)
@pytest.mark.rows("S-28")
async def test_cancel_check_is_polled_at_each_step(
    open_session: OpenSession, check_history: CheckHistory, polls: int, where: str
) -> None:
    left = polls

    def check() -> bool:
        nonlocal left
        left -= 1
        return left == 0

    def quick() -> str:
        return "quick"

    session = open_session([{"text": "x", "tool_calls": [call("quick")]}, {"text": "y"}], quick)
    session.cancel_check = check
    result = await session.run(prompt="Go.")
    assert (result.status, result.events[-1].content) == ("cancelled", f"Cancelled {where}")
    check_history(session.state.messages)


async def test_a_cancel_check_that_fails_ends_the_run_with_its_error(
    open_session: OpenSession,
) -> None:
    def check() -> bool:
        raise LookupError("no such job")

    session = open_session([{"text": "x"}])
    session.cancel_check = check
    with pytest.raises(LookupError):
        await session.run(prompt="Go.")
    assert session.state.status == "error"


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
    monkeypatch.setattr("paddock.runtime.execution.TOOL_PATIENCE", 0.01)
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


# The sandbox


@pytest.mark.rows("S-23", "S-54")
async def test_the_sandbox_is_made_once_at_the_first_need_and_kept_across_runs(
    open_session: OpenSession, backend: CountingBackend
) -> None:
    async def work(context: Any) -> str:
        return str(id(await context.sandbox()))

    turns = [
        {"tool_calls": [call("work")] * 5},
        {"text": "One."},
        {"tool_calls": [call("work")]},
        {"text": "Two."},
    ]
    async with open_session(turns, work) as session:
        assert not backend.made
        await session.run(prompt="1")
        await session.run(prompt="2")
        assert await session.get_sandbox() is backend.made[0]
        assert len(backend.made) == 1
        assert backend.live
    assert not backend.live
    await session.close()


@pytest.mark.rows("S-54")
async def test_many_may_wait_for_the_sandbox_and_some_may_leave(
    open_session: OpenSession, backend: CountingBackend
) -> None:
    session = open_session([])
    waiting = [asyncio.create_task(session.get_sandbox()) for _ in range(10)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    sandboxes = await asyncio.gather(*waiting[1:])
    assert len(set(map(id, sandboxes))) == len(backend.made) == 1
    await session.close()


async def test_when_nobody_waits_for_it_any_more_the_sandbox_is_not_made(
    open_session: OpenSession, backend: CountingBackend
) -> None:
    session = open_session([])
    waiting = [asyncio.create_task(session.get_sandbox()) for _ in range(2)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert not backend.live
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await session.get_sandbox()
    await session.close()


async def test_closing_stops_the_making_of_a_sandbox_and_tells_who_waits(
    open_session: OpenSession, backend: CountingBackend
) -> None:
    session = open_session([])
    waiting = asyncio.create_task(session.get_sandbox())
    await asyncio.sleep(0)
    await session.close()
    with pytest.raises(SessionError, match="sandbox was closed"):
        await waiting
    assert not backend.live


async def test_a_failed_making_is_told_to_all_and_may_be_tried_again(
    open_session: OpenSession, backend: CountingBackend
) -> None:
    session = open_session([])
    object.__setattr__(backend, "error", OSError("no room"))
    told = await asyncio.gather(*[session.get_sandbox() for _ in "ab"], return_exceptions=True)
    assert [str(error) for error in told] == ["no room", "no room"]
    object.__setattr__(backend, "error", None)
    await session.get_sandbox()
    await session.close()


def test_a_session_that_was_never_closed_loses_its_sandbox_with_the_loop(
    open_session: OpenSession, backend: CountingBackend
) -> None:
    session = open_session([])

    async def main() -> None:
        await session.get_sandbox()

    asyncio.run(main())
    assert not backend.live
    asyncio.run(main())  # and may be used again
    assert len(backend.made) == 2
    assert not backend.live


async def test_a_session_that_nobody_holds_loses_its_sandbox(
    open_session: OpenSession, backend: CountingBackend
) -> None:
    session = open_session([])
    await session.get_sandbox()
    del session
    gc.collect()
    (keeper,) = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait([keeper], timeout=PATIENCE)
    assert not backend.live


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


# The session's directory


@pytest.mark.rows("S-38")
async def test_directives_join_the_conversation_between_turns(
    open_session: OpenSession, tmp_path: Path
) -> None:
    directives = tmp_path / "directives.jsonl"

    def quick() -> str:
        directives.write_text('{"text": "Hurry."}\nplain words\n\n')
        return "quick"

    session = open_session(
        [{"tool_calls": [call("quick")]}, {"text": "Yes."}], quick, session_dir=tmp_path
    )
    await session.run(prompt="Go.")
    assert session.state.get_user_messages() == ["Go.", "Hurry.", "plain words"]
    assert directives.read_bytes() == b""


async def test_a_paused_session_that_is_cancelled_at_once_is_paused_no_more(
    open_session: OpenSession, tmp_path: Path
) -> None:
    (tmp_path / "pause").touch()
    session = open_session([{"text": "x"}], session_dir=tmp_path)
    begun = begins(session)
    run = asyncio.create_task(session.run(prompt="Go."))
    await until(begun)
    started = time.monotonic()
    await session.cancel()
    assert (await run).status == "cancelled"
    assert time.monotonic() - started < 0.4
    assert not (tmp_path / "pause").exists()


@pytest.mark.rows("S-38")
async def test_a_paused_session_goes_on_when_the_file_is_removed(
    open_session: OpenSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddock.runtime.control.PAUSE_INTERVAL", 0.001)
    (tmp_path / "pause").touch()
    session = open_session([{"text": "x"}], session_dir=tmp_path)
    begun = begins(session)
    run = asyncio.create_task(session.run(prompt="Go."))
    await until(begun)
    assert not run.done()
    (tmp_path / "pause").unlink()
    assert (await asyncio.wait_for(run, PATIENCE)).status == "completed"


async def test_two_sessions_of_one_directory_take_turns(
    open_session: OpenSession, tmp_path: Path
) -> None:
    turns = [{"text": "One."}, {"text": "Two."}, {"text": "Three."}]
    first = open_session(turns, session_dir=tmp_path)
    second = open_session(turns, session_dir=tmp_path)
    await first.run(prompt="1")
    await second.run(prompt="2")
    assert (await first.run(prompt="3")).text == "Three."
    assert first.state.get_user_messages() == ["1", "2", "3"]
    assert State.from_jsonl((tmp_path / "trace.jsonl").read_bytes()).run_count == 3


async def test_a_directory_in_use_is_locked_and_the_holder_is_named(
    open_session: OpenSession, tmp_path: Path
) -> None:
    model = Stuck()
    first = open_session([], client=model, session_dir=tmp_path)
    run = asyncio.create_task(first.run(prompt="1"))
    await until(model.speaking)
    with pytest.raises(SessionLocked, match=r"process \d+ on .* since 20"):
        await open_session([{"text": "x"}], session_dir=tmp_path).run(prompt="2")
    await first.cancel()
    await run


async def test_a_state_may_be_carried_to_a_new_directory(
    open_session: OpenSession, tmp_path: Path
) -> None:
    turns = [{"text": "One."}, {"text": "Two."}]
    first = open_session(turns, session_dir=tmp_path / "a")
    await first.run(prompt="1")
    state = State.from_jsonl((tmp_path / "a" / "trace.jsonl").read_bytes())
    fork = Session(first.agent, state=state, session_dir=tmp_path / "b", client=first._given_client)
    await fork.run(prompt="2")
    loaded = State.from_jsonl((tmp_path / "b" / "trace.jsonl").read_bytes())
    assert loaded.get_user_messages() == ["1", "2"]
    assert loaded.run_count == 2


async def test_intents_results_and_ends_are_on_the_disk_before_the_run_goes_on(
    open_session: OpenSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "trace.jsonl"
    synced: list[str] = []
    real = os.fdatasync

    def spy(fd: int) -> None:
        real(fd)
        synced.append(json.loads(trace.read_text().splitlines()[-1])["type"])

    def quick() -> str:
        assert synced == ["tool_start"]
        return "quick"

    def answer(request: ModelRequest) -> dict[str, str]:
        assert synced == ["tool_start", "tool_end"]
        return {"text": "Done."}

    monkeypatch.setattr("paddock.runtime.trace.os.fdatasync", spy)
    session = open_session([{"tool_calls": [call("quick")]}, answer], quick, session_dir=tmp_path)
    assert (await session.run(prompt="Go.")).text == "Done."
    assert "failed" not in str(session.state.messages)
    assert synced == ["tool_start", "tool_end", "run_end"]


@pytest.mark.rows("C37")
async def test_a_trace_that_cannot_be_written_stops_the_run_loudly(
    open_session: OpenSession, check_history: CheckHistory, tmp_path: Path, backend: CountingBackend
) -> None:
    ended = []

    async def work(context: Any) -> str:
        try:
            await context.sandbox()
            await asyncio.Event().wait()
        finally:
            ended.append("work")
        return "never"

    def fill() -> str:
        patch.setattr("paddock.runtime.trace.os.write", full)
        return "filled"

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, os.strerror(28))

    turns = [{"tool_calls": [call("work"), call("fill")]}, {"text": "Never."}]
    session = open_session(turns, work, fill, session_dir=tmp_path)
    seen: list[AgentEvent] = []
    with pytest.MonkeyPatch.context() as patch, pytest.raises(TraceWriteError, match="No space"):
        await session.run(prompt="Go.", on_event=seen.append)
    assert ended == ["work"]
    assert seen[-1].type == "error"
    assert "tool_end" not in [event.type for event in seen], "nothing unrecorded is shown"
    assert (await session.run(prompt="Again.")).status == "completed"
    check_history(session.state.messages)
    told = [message["content"] for message in session.state.messages if message["role"] == "tool"]
    assert all("Unknown" in text for text in told)
    await session.close()


async def test_a_session_whose_directory_is_gone_is_still_cancelled_and_closed(
    open_session: OpenSession, backend: CountingBackend, tmp_path: Path
) -> None:
    tool = Hanging()

    async def wait(context: ToolContext) -> str:
        await context.sandbox()
        return await tool()

    session = open_session([{"tool_calls": [call("wait")]}], wait, session_dir=tmp_path / "one")
    task = asyncio.create_task(session.run("Go."))
    async with asyncio.timeout(PATIENCE):
        await tool.working.wait()
        shutil.rmtree(tmp_path / "one")
        await session.close()
        assert not backend.live
        assert (await task).status == "cancelled"


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


async def test_a_long_trace_is_read_in_pieces_in_another_thread(
    open_session: OpenSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_session([{"text": "One."}, {"text": "Two."}], session_dir=tmp_path)
    await first.run("x" * 5000)
    await first.run("y" * 5000)
    monkeypatch.setattr("paddock.runtime.trace.PIECE", 1000)
    monkeypatch.setattr("paddock.runtime.journal.PIECE", 1000)
    in_place: list[int] = []

    def read(data: bytes, *, start: int = 0) -> TraceContent:
        if threading.current_thread() is threading.main_thread():
            in_place.append(len(data))
        return read_records(data, start=start)

    monkeypatch.setattr("paddock.runtime.trace.read_records", read)
    session = open_session([{}, {}, {"text": "Three."}], session_dir=tmp_path)
    assert (await session.run("Go.")).text == "Three."
    assert session.state.run_count == 3
    assert in_place
    assert max(in_place) <= 1000
    whole = State.from_jsonl((tmp_path / "trace.jsonl").read_bytes())
    assert whole.messages == session.state.messages
