"""A run whose events are iterated over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import SessionError, TraceWriteError
from paddock.runtime.core.cancellation import CancellationToken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from paddock.runtime.core.model import Message
    from tests.unit.runtime.conftest import CountingBackend, OpenSession

    CheckHistory = Callable[[Sequence[Message]], None]

LONG = 3600.0
LIMIT = 60.0
"""Seconds within which anything has to happen on a busy machine."""
TURNS: list[dict[str, Any]] = [
    {"text": "I look.", "tool_calls": [{"name": "look"}]},
    {"text": "Seen."},
]


async def look() -> str:
    return "a tree"


async def forever() -> str:
    await asyncio.sleep(LONG)
    return "never"


def nothing_runs() -> bool:
    return asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_stream_gives_what_the_callback_of_run_is_given(
    open_session: OpenSession,
) -> None:
    shown: list[Any] = []
    expected = await open_session(TURNS, look).run("Look.", on_event=shown.append)
    session = open_session(TURNS, look)
    async with session.stream("Look.") as events:
        with pytest.raises(SessionError, match="has not ended"):
            _ = events.result
        seen = [event async for event in events]
        assert [event.type for event in seen] == [event.type for event in shown]
    assert events.result.text == expected.text == "Seen."
    assert events.result.events == seen
    assert [event async for event in events] == [], "it stays at its end"


async def test_a_stream_ends_for_each_task_that_reads_it(open_session: OpenSession) -> None:
    async def read() -> int:
        return len([event async for event in events])

    session = open_session([{"text": "Hello.", "delay": 0.01}])
    async with session.stream("Look.") as events, asyncio.timeout(LIMIT):
        counts = await asyncio.gather(read(), read(), read())
    assert sum(counts) == len(events.result.events)


async def test_leaving_a_stream_early_cancels_the_run(
    open_session: OpenSession, check_history: CheckHistory
) -> None:
    session = open_session([{"text": "x", "tool_calls": [{"name": "forever"}]}], forever)
    async with session.stream("Go.") as events:
        async for event in events:
            if event.type == "tool_start":
                break
    assert events.result.status == "cancelled"
    assert events.result.reason == "the stream was closed"
    check_history(session.state.messages)
    assert nothing_runs()


async def test_a_reader_that_leaves_a_full_backlog_does_not_hold_the_run(
    open_session: OpenSession,
) -> None:
    session = open_session([{"text": "word " * 500}, {"text": "Again."}])
    async with session.stream("Go.") as events:
        await anext(events)
    assert events.result.status == "cancelled"
    assert (await session.run("Go on.")).status == "completed"


async def test_a_slow_reader_slows_the_run_and_loses_nothing(open_session: OpenSession) -> None:
    session = open_session([{"text": "word " * 500}])
    texts = []
    async with session.stream("Go.") as events:
        async for event in events:
            await asyncio.sleep(0)
            if event.type == "text":
                texts.append(event.content or "")
    assert "".join(texts) == "word " * 500


async def test_the_block_ends_with_its_own_error_and_the_run_has_ended(
    open_session: OpenSession,
) -> None:
    session = open_session([{"text": "x", "tool_calls": [{"name": "forever"}]}], forever)
    with pytest.raises(KeyError):
        async with session.stream("Go.") as events:
            async for _ in events:
                raise KeyError
    assert nothing_runs()
    assert session.state.status == "cancelled"


async def test_a_cancelled_reader_leaves_nothing_behind(open_session: OpenSession) -> None:
    async def read() -> None:
        async with session.stream("Go.") as events:
            async for event in events:
                if event.type == "tool_start":
                    reached.set()

    reached = asyncio.Event()
    session = open_session([{"text": "x", "tool_calls": [{"name": "forever"}]}], forever)
    task = asyncio.create_task(read())
    await asyncio.wait_for(reached.wait(), 60)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert nothing_runs()
    assert session.state.status == "cancelled"


@pytest.mark.parametrize("iterates", [True, False])
async def test_what_the_run_raises_is_raised_once(
    open_session: OpenSession, tmp_path: Path, iterates: bool, backend: CountingBackend
) -> None:
    (tmp_path / "trace.jsonl").mkdir()
    session = open_session(TURNS, look, session_dir=tmp_path)
    entered = False
    with pytest.raises(TraceWriteError):
        async with session.stream("Go.") as events:
            entered = True
            if iterates:
                async for _ in events:
                    raise AssertionError("there is no event")
    assert entered
    with pytest.raises(TraceWriteError):
        _ = events.result


async def test_a_token_and_a_native_timeout_reach_the_run(open_session: OpenSession) -> None:
    token = CancellationToken()
    session = open_session([{"text": "x", "tool_calls": [{"name": "forever"}]}] * 2, forever)
    async with session.stream("Go.", token=token) as events:
        async for event in events:
            if event.type == "tool_start":
                token.cancel("enough")
    assert (events.result.status, events.result.reason) == ("cancelled", "enough")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), session.stream("Go.") as events:
            async for _ in events:
                pass
    assert events.result.status == "cancelled"


async def test_a_stream_is_entered_once_and_before_it_is_read(open_session: OpenSession) -> None:
    events = open_session([{"text": "x"}]).stream("Go.")
    with pytest.raises(SessionError, match="entered"):
        await anext(events)
    async with events:
        with pytest.raises(SessionError, match="one run"):
            await events.__aenter__()
