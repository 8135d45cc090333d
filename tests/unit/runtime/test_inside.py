"""Ending a run from inside it: from its callbacks and its tools, which it waits for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    RuntimeOptions,
    ScriptedModel,
    Session,
    SessionError,
    close_runtime,
    create_runtime,
    dispatch_prompt,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from paddock import AgentEvent, AgentHandle, RunResult, ToolHandler
    from paddock.runtime.core.model import Message
    from tests.unit.runtime.conftest import CountingBackend, OpenSession

    End = Callable[[Session], Awaitable[None]]

pytestmark = pytest.mark.rows("S-25", "O-8")

PATIENCE = 60.0
"""Seconds: less than what a callback or a tool that does not end is given."""
TURNS = [{"tool_calls": [{"name": "work"}]}, {"text": "Done."}, {"text": "Done."}]


async def close(session: Session) -> None:
    await session.close()


async def cancel(session: Session) -> None:
    await session.cancel()


async def close_in_a_group(session: Session) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(session.close())


ENDS = pytest.mark.parametrize("end", [close, cancel, close_in_a_group])


def work() -> str:
    return "worked"


def on(kind: str, end: End, session: Session) -> Callable[[AgentEvent], Awaitable[None]]:
    """A callback that ends `session` when it is shown an event of this kind."""

    async def show(event: AgentEvent) -> None:
        if event.type == kind:
            await end(session)

    return show


async def finished(session: Session, **given: Any) -> RunResult:
    async with asyncio.timeout(PATIENCE):
        return await session.run("Work.", **given)


@ENDS
@pytest.mark.parametrize("kind", ["tool_start", "tool_end", "text"])
async def test_a_callback_may_end_the_run_that_shows_it_an_event(
    open_session: OpenSession,
    backend: CountingBackend,
    check_history: Callable[[Sequence[Message]], None],
    end: End,
    kind: str,
) -> None:
    session = open_session(TURNS, work)
    await session.get_sandbox()
    result = await finished(session, on_event=on(kind, end, session))
    assert result.status == "cancelled"
    assert len(backend.live) == (1 if end is cancel else 0)
    check_history(session.state.messages)
    assert (await finished(session)).status == "completed", "it can be run again"


@ENDS
async def test_a_tool_may_end_its_own_run(
    open_session: OpenSession, backend: CountingBackend, end: End
) -> None:
    async def work() -> str:
        await session.get_sandbox()
        await end(session)
        return "worked"

    session = open_session(TURNS, work)
    assert (await finished(session)).status == "cancelled"
    assert len(backend.live) == (1 if end is cancel else 0)


@pytest.mark.parametrize("end", [close, cancel])
async def test_a_callback_that_is_shown_the_end_may_end_the_session(
    open_session: OpenSession, backend: CountingBackend, end: End
) -> None:
    session = open_session([{"error": "overloaded"}])
    await session.get_sandbox()
    result = await finished(session, on_event=on("error", end, session))
    assert result.status == "error"
    assert len(backend.live) == (1 if end is cancel else 0)


async def test_an_approval_callback_may_close_the_session(
    open_session: OpenSession, asking: Callable[[Callable[[], str]], ToolHandler]
) -> None:
    async def approve(name: str, arguments: dict[str, Any]) -> bool:
        await session.close()
        return True

    session = open_session(TURNS, asking(work))
    session.approval_callback = approve
    assert (await finished(session)).status == "cancelled"


async def test_a_task_that_a_callback_began_closes_the_session_and_waits_for_it(
    open_session: OpenSession, backend: CountingBackend
) -> None:
    closing: list[asyncio.Task[None]] = []

    def show(event: AgentEvent) -> None:
        if event.type == "tool_end":
            closing.append(asyncio.create_task(session.close()))

    session = open_session(TURNS, work)
    await session.get_sandbox()
    result = await finished(session, on_event=show)
    await closing[0]
    assert (result.status, backend.live) == ("cancelled", [])


@pytest.mark.parametrize("kind", ["tool_start", "tool_end"])
async def test_a_callback_may_close_the_runtime(kind: str) -> None:
    runtime = create_runtime("x", options=RuntimeOptions(profile="unrestricted"))
    turn = {"tool_calls": [{"name": "bash", "arguments": {"command": "true"}}]}
    runtime.session._resources.given_client = ScriptedModel([turn, {"text": "Done."}])

    async def end(_session: Session) -> None:
        await close_runtime(runtime, "cancelled")

    result = await finished(runtime.session, on_event=on(kind, end, runtime.session))
    assert result.status == "cancelled"


async def test_a_run_that_would_wait_for_its_own_end_is_told_so() -> None:
    handles: list[AgentHandle] = []
    watching: list[asyncio.Task[RunResult]] = []

    async def show(event: AgentEvent) -> None:
        watching.append(asyncio.create_task(handles[0].wait()))  # this is another's wait
        with pytest.raises(SessionError, match="wait for its own end"):
            await handles[0].wait()

    async with create_runtime("x") as runtime:
        runtime.session._resources.given_client = ScriptedModel([{"text": "Hello."}])
        handles.append(dispatch_prompt(runtime, "Hello?", on_event=show))
        async with asyncio.timeout(PATIENCE):
            assert (await handles[0].wait()).status == "completed"
            assert (await watching[0]).text == "Hello."
