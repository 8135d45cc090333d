"""Calls that are entered again after their run ended, and the agents that continue in them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    Decision,
    MemoryConversationStore,
    RunContext,
    Session,
    tool,
)
from tests.unit.runtime.resuming import PATIENCE, STORES, Model, Step, agent, calls, leave

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from paddock import ConversationStore


@pytest.mark.rows("F-38")
@pytest.mark.parametrize("make", STORES)
async def test_a_call_that_a_run_left_is_entered_again_with_its_id_and_arguments(
    tmp_path: Path, make: Callable[[Path], ConversationStore]
) -> None:
    step, store, model = Step(), make(tmp_path), Model(calls("step"))

    def opened() -> Session:
        session = Session(agent(step), session_id="one", store=store, client=model)
        session.keeps_open = True
        return session

    async with opened() as session:
        left = await leave(session, step.began)
    assert (left.status, left.reason) == ("interrupted", "requested")
    async with opened() as session:
        result = await session.resume()
    assert (result.status, result.text) == ("completed", "stepped")
    assert step.seen == [("step-1", {"x": 1}, False), ("step-1", {"x": 1}, True)]
    assert model.answers == 2


@pytest.mark.rows("F-38")
@pytest.mark.parametrize("keeps_open", [False, True])
async def test_what_cannot_be_resumed_gets_a_result_and_what_had_not_begun_is_made(
    keeps_open: bool,
) -> None:
    once, after = Step("once", resumable=False), Step("after")
    session = Session(
        agent(once, after),
        session_id="one",
        store=MemoryConversationStore(),
        client=Model(calls("once", "after")),
    )
    session.keeps_open = keeps_open
    async with session:
        left = await leave(session, once.began)
        assert left.status == ("interrupted" if keeps_open else "cancelled")
        resuming = asyncio.create_task(session.resume())
        if keeps_open:
            async with asyncio.timeout(PATIENCE):
                await after.began.wait()
            session.cancel()
            await resuming
            resuming = asyncio.create_task(session.resume())
        result = await resuming
    stopped, *rest = result.text.split("; ")
    assert stopped.startswith("Cancelled while it ran.")
    never_ran = "Not run: the run ended before this call began."
    assert rest == ["stepped" if keeps_open else never_ran]
    assert [resumed for _, _, resumed in after.seen] == ([False, True] if keeps_open else [])


@pytest.mark.rows("F-38")
async def test_a_prompt_instead_closes_a_call_that_was_left() -> None:
    step, model = Step(), Model(calls("step"))
    session = Session(agent(step), session_id="one", store=MemoryConversationStore(), client=model)
    session.keeps_open = True
    async with session:
        await leave(session, step.began)
        step.began.clear()
        await leave(session, step.began, "Another.")
    results = [each["content"] for each in session.state.messages if each["role"] == "tool"]
    assert [each[:12] for each in results] == ["Not resumed:"]
    assert [resumed for _, _, resumed in step.seen] == [False, False]


@pytest.mark.rows("F-38")
async def test_a_tool_that_can_no_longer_continue_says_so_and_does_not_run() -> None:
    step, store = Step(), MemoryConversationStore()
    session = Session(agent(step), session_id="one", store=store, client=Model(calls("step")))
    session.keeps_open = True
    async with session:
        await leave(session, step.began)
    step.is_resumable = False
    async with Session(
        agent(step), session_id="one", store=store, client=Model(calls("step"))
    ) as session:
        result = await session.resume()
    assert result.text.startswith("Unknown: an earlier run ended while this call ran")
    assert len(step.seen) == 1


@pytest.mark.rows("F-36", "F-38")
async def test_a_call_that_was_approved_once_is_entered_again_as_it_was_revised() -> None:
    step, store = Step(asks=True), MemoryConversationStore()
    session = Session(agent(step), session_id="one", store=store, client=Model(calls("step")))
    session.keeps_open = True
    asked: list[dict[str, Any]] = []

    def revise(_: str, arguments: dict[str, Any]) -> Decision:
        asked.append(arguments)
        return Decision(outcome="revise", partial={"x": 2})

    session.approval_callback = revise
    async with session:
        await leave(session, step.began)
        result = await session.resume()
    assert result.status == "completed"
    assert asked == [{"x": 1}]
    assert step.seen == [("step-1", {"x": 2}, False), ("step-1", {"x": 2}, True)]


async def test_a_function_says_itself_whether_it_continues() -> None:
    @tool(resumable=True)
    def again(ctx: RunContext[None]) -> str:
        """Say whether this is again."""
        return str(ctx.is_resumed)

    assert again.is_resumable
    assert agent(again).registry.is_resumable("again")
    assert not agent(Step(resumable=False)).registry.is_resumable("step")
