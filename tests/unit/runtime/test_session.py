"""Sessions: one conversation of many runs, one at a time, and one sandbox for them all."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import SessionError
from tests.unit.runtime.stuck import PATIENCE, Stuck, call, until

if TYPE_CHECKING:
    from paddock.runtime.core.model import ModelRequest
    from tests.unit.runtime.conftest import CountingBackend, OpenSession


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
