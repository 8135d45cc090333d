"""A session's directory: other people's files, one writer at a time, and the trace."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest

from paddock import CancellationToken
from paddock.errors import SessionLocked, TraceWriteError
from paddock.runtime.conversation import control
from paddock.runtime.conversation.control import Control
from paddock.runtime.conversation.directory import SessionDirectory
from paddock.runtime.conversation.state import State
from paddock.runtime.conversation.trace import TraceContent, read_records
from paddock.runtime.core.emitter import Emitter
from paddock.runtime.session.session import Session
from tests.unit.runtime.conftest import let_run_at_once
from tests.unit.runtime.stuck import PATIENCE, Stuck, begins, call, until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from paddock.runtime.conversation.results import AgentEvent
    from paddock.runtime.core.model import Message, ModelRequest
    from tests.unit.runtime.conftest import CountingBackend, OpenSession

    CheckHistory = Callable[[Sequence[Message]], None]


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
    open_session: OpenSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddock.runtime.conversation.control.PAUSE_INTERVAL", 3600.0)
    (tmp_path / "pause").touch()
    session = open_session([{"text": "x"}], session_dir=tmp_path)
    begun = begins(session)
    run = asyncio.create_task(session.run(prompt="Go."))
    await until(begun)
    await session.cancel()
    async with asyncio.timeout(PATIENCE):
        assert (await run).status == "cancelled"
    assert not (tmp_path / "pause").exists()


@pytest.mark.rows("S-38")
async def test_a_paused_session_goes_on_when_the_file_is_removed(
    open_session: OpenSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddock.runtime.conversation.control.PAUSE_INTERVAL", 0.001)
    (tmp_path / "pause").touch()
    session = open_session([{"text": "x"}], session_dir=tmp_path)
    begun = begins(session)
    run = asyncio.create_task(session.run(prompt="Go."))
    await until(begun)
    assert not run.done()
    (tmp_path / "pause").unlink()
    assert (await asyncio.wait_for(run, PATIENCE)).status == "completed"


@pytest.mark.parametrize("way", ["file", "token", "task"])
async def test_a_pause_ends_with_its_run(
    open_session: OpenSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr("paddock.runtime.conversation.control.PAUSE_INTERVAL", 0.001)
    (tmp_path / "pause").touch()
    session = open_session([{"text": "x"}], session_dir=tmp_path)
    begun, token = begins(session), CancellationToken()
    run = asyncio.create_task(session.run(prompt="Go.", token=token))
    await until(begun)
    if way == "file":
        (tmp_path / "cancel").touch()
    elif way == "token":
        token.cancel()
    else:
        run.cancel()
    await asyncio.wait([run], timeout=PATIENCE)
    again = await asyncio.wait_for(session.run(prompt="Again."), PATIENCE)
    assert again.status == "completed"


async def test_a_pause_of_a_run_whose_process_died_is_over(
    open_session: OpenSession, tmp_path: Path
) -> None:
    (tmp_path / "pause").touch()
    (tmp_path / "meta.json").write_text('{"status": "running"}')
    session = open_session([{"text": "x"}], session_dir=tmp_path)
    result = await asyncio.wait_for(session.run(prompt="Go."), PATIENCE)
    assert result.status == "completed"


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
    fork = Session(
        first.agent, state=state, session_dir=tmp_path / "b", client=first._resources.given_client
    )
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

    monkeypatch.setattr("paddock.runtime.conversation.trace.os.fdatasync", spy)
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
        patch.setattr("paddock.runtime.conversation.trace.os.write", full)
        return "filled"

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, os.strerror(28))

    turns = [{"tool_calls": [call("work"), call("fill")]}, {"text": "Never."}]
    session = open_session(turns, work, fill, session_dir=tmp_path)
    let_run_at_once(session)
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


@pytest.mark.rows("C37")
async def test_a_run_whose_directory_is_removed_stops_and_can_be_begun_again(
    open_session: OpenSession, check_history: CheckHistory, tmp_path: Path
) -> None:
    def remove() -> str:
        shutil.rmtree(tmp_path)
        return "removed"

    turns = [{"tool_calls": [call("remove")]}, {"text": "Done."}]
    session = open_session(turns, remove, session_dir=tmp_path)
    with pytest.raises(TraceWriteError, match=r"trace\.jsonl: .*somebody removed it"):
        await session.run(prompt="Go.")
    assert (await session.run(prompt="Again.")).text == "Done."
    check_history(session.state.messages)
    trace = (tmp_path / "trace.jsonl").read_bytes()
    assert State.from_jsonl(trace).messages == session.state.messages


async def test_a_long_trace_is_read_in_pieces_in_another_thread(
    open_session: OpenSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_session([{"text": "One."}, {"text": "Two."}], session_dir=tmp_path)
    await first.run("x" * 5000)
    await first.run("y" * 5000)
    monkeypatch.setattr("paddock.runtime.conversation.trace.PIECE", 1000)
    monkeypatch.setattr("paddock.runtime.conversation.traces.PIECE", 1000)
    pieces: list[int] = []

    def read(data: bytes, *, start: int = 0) -> TraceContent:
        assert threading.current_thread() is not threading.main_thread()
        pieces.append(len(data))
        return read_records(data, start=start)

    monkeypatch.setattr("paddock.runtime.conversation.trace.read_records", read)
    session = open_session([{}, {}, {"text": "Three."}], session_dir=tmp_path)
    assert (await session.run("Go.")).text == "Three."
    assert session.state.run_count == 3
    assert len(pieces) > 5
    whole = State.from_jsonl((tmp_path / "trace.jsonl").read_bytes())
    assert whole.messages == session.state.messages


async def test_who_is_told_of_a_steering_message_may_leave_another(
    open_session: OpenSession, tmp_path: Path
) -> None:
    directory = SessionDirectory(tmp_path)

    def look() -> str:
        return "a tree"

    class Coach:
        def on_event(self, event: dict[str, Any]) -> None:
            if event["type"] == "message" and event.get("content") == "first":
                directory.add_directive("second")

    turns = [{"tool_calls": [call("look")]}, {"text": "Done."}]
    session = open_session(turns, look, session_dir=tmp_path)
    session.state.add_observer(Coach())
    directory.make()
    directory.add_directive("first")
    async with asyncio.timeout(30):
        await session.run("Go.")
    assert session.state.get_user_messages() == ["Go.", "first", "second"]
    with directory.directives() as left:
        assert left == []


async def test_a_cancellation_that_ends_a_pause_is_seen_before_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "PAUSE_INTERVAL", 0.0)
    directory = SessionDirectory(tmp_path)
    directory.request_pause()
    run = Control(directory=directory)
    seen: list[str | None] = []

    async def check() -> None:
        assert run.poll is not None
        seen.append(run.poll())
        directory.request_cancel()

    await run.before_call(Emitter([], session_id="s"), check)
    assert seen == [None, "requested"]
