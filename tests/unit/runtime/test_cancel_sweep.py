"""A cancellation at every single await (C46, D8): of a run, a resumed one, a stream's reader."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import TYPE_CHECKING, Any, cast

import pytest

from paddock.runtime.conversation.state import State

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.runtime.conversation.results import AgentEvent, RunResult
    from paddock.runtime.core.model import Message
    from paddock.runtime.session.session import Session
    from paddock.runtime.tools.base import ToolHandler
    from tests.unit.runtime.conftest import CountingBackend, Function, OpenSession

    CheckHistory = Callable[[Sequence[Message]], None]


def call(tool: str) -> dict[str, Any]:
    return {"name": tool, "arguments": {}}


class CancelAt:
    """A coroutine that is cancelled by `cancel` while it waits for the `step`-th time.

    Each further way to cancel is used one round of the event loop after the one before.
    """

    def __init__(self, inner: Coroutine[Any, Any, RunResult], step: int) -> None:
        self._inner = inner
        self._step = step
        self.steps = 0
        self.cancel: list[Callable[[], object]] = []

    def send(self, value: Any) -> Any:
        waited_for = self._inner.send(value)
        self._count()
        return waited_for

    def throw(self, *error: Any) -> Any:
        waited_for = self._inner.throw(*error)
        self._count()
        return waited_for

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, RunResult]:
        return (yield from self._inner.__await__())

    def _count(self) -> None:
        self.steps += 1
        if self.steps == self._step:
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self.cancel.pop(0)()
        if self.cancel:
            asyncio.get_running_loop().call_soon(self._next)


Coroutine.register(CancelAt)


def sweep_scenario(
    open_session: OpenSession, asking: Callable[[Function], ToolHandler], directory: Path
) -> Session:
    """Two turns with everything that may be waited for."""

    async def work(context: Any) -> str:
        await context.sandbox()
        await asyncio.sleep(0)
        return "worked"

    async def risky() -> str:
        await asyncio.sleep(0)
        return "risked"

    async def approve(tool: str, arguments: dict[str, Any]) -> bool:
        await asyncio.sleep(0)
        return True

    turns = [
        {"text": "I begin.", "tool_calls": [call("work"), call("risky"), call("work")]},
        {"text": "And.", "tool_calls": [call("work")]},
        {"text": "Done."},
    ]
    config = {"auto_approve": False}
    session = open_session(turns, work, asking(risky), session_dir=directory, config=config)
    session.approval_callback = approve
    return session


async def show(event: AgentEvent) -> None:
    await asyncio.sleep(0)


async def run(session: Session) -> Callable[[], Coroutine[Any, Any, RunResult]]:
    return lambda: session.run("Go.", on_event=show)


async def resume(session: Session) -> Callable[[], Coroutine[Any, Any, RunResult]]:
    callback, session.approval_callback = session.approval_callback, None
    waiting = (await session.run("Go.")).interruptions
    session.approval_callback = callback
    decisions = {item.tool_call_id: True for item in waiting}
    return lambda: session.resume(decisions, on_event=show)


async def stream(session: Session) -> Callable[[], Coroutine[Any, Any, RunResult]]:
    async def read() -> RunResult:
        async with session.stream("Go.") as events:
            async for event in events:
                await show(event)
        return events.result

    return read


CANCELS: dict[str, Callable[[Session, asyncio.Task[Any]], Sequence[Callable[[], object]]]] = {
    "task": lambda session, task: [task.cancel],
    "session": lambda session, task: [session.cancel],
    "task twice": lambda session, task: [task.cancel, task.cancel],
    "session, then task": lambda session, task: [session.cancel, task.cancel],
}


@pytest.mark.parametrize("how", CANCELS)
@pytest.mark.parametrize("what", [run, resume, stream])
@pytest.mark.rows("C46", "D8")
async def test_cancelled_at_any_await_a_run_leaves_nothing_behind(
    open_session: OpenSession,
    asking: Callable[[Function], ToolHandler],
    backend: CountingBackend,
    check_history: CheckHistory,
    tmp_path: Path,
    how: str,
    what: Callable[[Session], Coroutine[Any, Any, Callable[[], Coroutine[Any, Any, RunResult]]]],
) -> None:
    step, steps, statuses = 0, 1, set()
    while step < steps:
        step += 1
        directory = tmp_path / str(step)
        session = sweep_scenario(open_session, asking, directory)
        begin = await what(session)
        counted = CancelAt(begin(), step)
        task: asyncio.Task[RunResult] = asyncio.create_task(cast("Any", counted))
        counted.cancel = [*CANCELS[how](session, task)]
        await asyncio.wait([task])
        steps = max(steps, counted.steps)
        status = "cancelled" if task.cancelled() else task.result().status
        statuses.add(status)
        if session.state.pending_approvals:  # cancelled before it had taken anything up
            assert (what, session.state.status) == (resume, "interrupted")
        else:
            check_history(session.state.messages)
        loaded = State.from_jsonl((directory / "trace.jsonl").read_bytes())
        assert loaded.messages == session.state.messages
        assert loaded.status == session.state.status
        assert status in (loaded.status, "cancelled"), "a cancellation may come too late to be one"
        session.recover()  # the lock is free
        await session.close()
        assert not backend.live
        assert asyncio.all_tasks() == {asyncio.current_task()}
    assert steps > 20
    assert "cancelled" in statuses
