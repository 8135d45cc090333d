"""A `cancel_check` of the user's, which each step of a run asks."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from tests.unit.runtime.stuck import call

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paddock.runtime.core.model import Message
    from tests.unit.runtime.conftest import OpenSession

    CheckHistory = Callable[[Sequence[Message]], None]


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


async def test_a_cancel_check_may_be_async(
    open_session: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddock.runtime.core.cancellation.POLL_INTERVAL", 0.001)
    asked, answers = asyncio.Event(), iter([False, True])

    async def check() -> bool:
        await asyncio.sleep(0)
        wanted = next(answers)
        if wanted:
            asked.set()
        return wanted

    async def wait() -> str:
        await asyncio.sleep(3600)
        return "never"

    session = open_session([{"tool_calls": [{"name": "wait"}]}], wait)
    session.cancel_check = check
    async with asyncio.timeout(30):
        result = await session.run("Go.")
    assert asked.is_set()
    assert (result.status, result.reason) == ("cancelled", "cancel_check")


async def test_a_cancel_check_that_blocks_holds_up_neither_the_loop_nor_the_run(
    open_session: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddock.runtime.core.cancellation.POLL_INTERVAL", 0.001)
    monkeypatch.setattr("paddock.runtime.core.cancellation.ANSWER_TIMEOUT", 0.001)
    asked, release = threading.Event(), threading.Event()

    def check() -> bool:
        asked.set()
        return release.wait(30)

    async def go_on() -> str:  # reached although nobody has answered
        assert await asyncio.to_thread(asked.wait, 30)
        release.set()
        await asyncio.sleep(3600)
        return "never"

    session = open_session([{"tool_calls": [{"name": "go_on"}]}], go_on)
    session.cancel_check = check
    async with asyncio.timeout(30):
        result = await session.run("Go.")
    assert (result.status, result.reason) == ("cancelled", "cancel_check")


async def test_an_async_cancel_check_that_says_no_ends_nothing_and_is_not_left_behind(
    open_session: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddock.runtime.core.cancellation.POLL_INTERVAL", 0.001)
    hanging = asyncio.Event()

    async def check() -> bool:
        hanging.set()
        await asyncio.sleep(3600)
        return True

    async def wait() -> str:
        await asyncio.wait_for(hanging.wait(), 30)
        return "done"

    session = open_session([{"tool_calls": [{"name": "wait"}]}, {"text": "Done."}], wait)
    session.cancel_check = check
    result = await session.run("Go.")
    assert result.status == "completed"
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_a_cancel_check_raises_while_it_is_awaited_is_raised_by_the_run(
    open_session: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddock.runtime.core.cancellation.POLL_INTERVAL", 0.001)

    async def check() -> bool:
        raise LookupError("the queue is gone")

    async def wait() -> str:
        await asyncio.sleep(3600)
        return "never"

    session = open_session([{"tool_calls": [{"name": "wait"}]}], wait)
    session.cancel_check = check
    async with asyncio.timeout(30):
        with pytest.raises(LookupError, match="the queue is gone"):
            await session.run("Go.")
