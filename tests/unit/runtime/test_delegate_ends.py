"""How agents that work for an agent end: with a question, with a fault, with their parent."""

from __future__ import annotations

import asyncio
import functools
import types
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pytest

from paddock import (
    ApprovalInterrupt,
    CancellationToken,
    LocalBackend,
    PermissionProfile,
    SandboxError,
    State,
    ToolHandler,
    ToolInvocation,
    ToolOutput,
)
from paddock.runtime.session.subagents import AgentRunner
from paddock.runtime.tools.delegate import DelegateHandler
from tests.unit.runtime.delegating import (
    CHILD_USAGE,
    Touch,
    Two,
    delegating,
    running,
    session_of,
    told,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Sequence
    from pathlib import Path

    from paddock.runtime.core.model import Message
    from paddock.runtime.core.subagent import AgentReport, AgentTask
    from tests.unit.runtime.conftest import CountingBackend

    CheckHistory = Callable[[Sequence[Message]], None]


@pytest.mark.rows("S-50")
async def test_a_shared_sandbox_that_cannot_be_made_ends_the_run_as_it_does_without_a_child(
    backend: CountingBackend,
) -> None:
    broken = replace(backend, error=SandboxError("no room"))
    client = Two([delegating(), {"text": "x"}], [running("true"), {"text": "x"}])
    async with session_of(client, backend=broken) as session:
        with pytest.raises(SandboxError, match="no room"):
            await session.run("Go.")
    assert session.state.status == "error"


ASKING = PermissionProfile.from_dict(
    {
        "profile": "asking",
        "shell": {"mode": "unrestricted"},
        "file_write": {"mode": "full"},
        "approval": {"mode": "granular", "required_tools": ["bash"]},
    }
)


@pytest.mark.rows("S-50")
async def test_a_child_asks_its_parents_callback_and_two_of_them_in_turn() -> None:
    asked: list[str] = []
    asking = 0

    async def approve(name: str, arguments: dict[str, Any]) -> bool:
        nonlocal asking
        asking += 1
        assert asking == 1, "a person reads one question at a time"
        await asyncio.sleep(0)
        asking -= 1
        asked.append(name)
        return True

    twice = delegating()
    twice["tool_calls"] = twice["tool_calls"] * 2
    client = Two(
        [twice, {"text": "Done."}], [running("echo ran"), {"expect": "ran", "text": "Ran."}]
    )
    async with session_of(client, profile=ASKING) as session:
        session.approval_callback = approve
        result = await session.run("Go.")
    assert result.text == "Done."
    assert asked == ["bash", "bash"]


@pytest.mark.rows("S-50")
@pytest.mark.parametrize("by_callback", [True, False])
async def test_a_call_that_nobody_can_approve_now_ends_the_child_and_the_parent_is_told(
    by_callback: bool,
) -> None:
    def later(name: str, arguments: dict[str, Any]) -> bool:
        raise ApprovalInterrupt("not now")

    itself = {"expect": "Make them yourself", **running("echo ran")}
    client = Two(
        [delegating(), itself, {"expect": "ran", "text": "I did it."}], [running("echo ran")]
    )
    async with session_of(client, profile=ASKING, auto_approve=False) as session:
        session.approval_callback = later if by_callback else None
        result = await session.run("Go.")
        content, metadata = told(result)
        assert (metadata["child_status"], metadata["success"]) == ("interrupted", False)
        assert '- bash {"command": "echo ran"}' in content
        assert result.status == "interrupted"
        (waiting,) = result.interruptions
        resumed = await session.resume({waiting.tool_call_id: True})
    assert resumed.text == "I did it."


@pytest.mark.rows("S-50", "O-16")
@pytest.mark.parametrize("how", ["token", "task", "cancel_check"])
async def test_cancelling_the_parent_ends_the_child_and_leaves_nothing(
    how: str, tmp_path: Path, check_history: CheckHistory
) -> None:
    client = Two([delegating()], [running("touch began; exec sleep 987")])
    token, wanted = CancellationToken(), asyncio.Event()
    backend = LocalBackend(isolation="none", working_dir=str(tmp_path / "work"))
    async with session_of(client, backend=backend, directory=tmp_path / "s") as session:
        session.cancel_check = wanted.is_set
        sandbox = await session.get_sandbox()
        run = asyncio.create_task(session.run("Go.", token=token))
        async with asyncio.timeout(60):
            await sandbox.exec("until [ -e began ]; do sleep 0.01; done", check=True)
            match how:
                case "token":
                    token.cancel("enough")
                case "task":
                    run.cancel()
                case _:
                    wanted.set()
            await asyncio.wait([run])
        assert session.state.status == "cancelled"
        left = await sandbox.exec("ps -eo args | grep '[s]leep 987$' || echo none")
        assert left.stdout == "none\n"
        check_history(session.state.messages)
        assert session.state.usage["input_tokens"] == 107
    if how == "task":
        assert run.cancelled()
    else:
        assert run.result().usage["input_tokens"] == 107


@types.coroutine
def struck(
    work: Coroutine[Any, Any, Any], step: int, strike: Callable[[], object], waits: list[None]
) -> Generator[Any, Any, Any]:
    """Await `work`; `strike` comes when it waits for the `step`-th time. `waits` counts."""
    inner = work.__await__()
    go_on: Callable[[], Any] = functools.partial(next, inner)
    while True:
        try:
            waited_for = go_on()
        except StopIteration as end:
            return end.value
        waits.append(None)
        if len(waits) == step:
            asyncio.get_running_loop().call_soon(strike)
        try:
            go_on = functools.partial(inner.send, (yield waited_for))
        except BaseException as error:
            go_on = functools.partial(inner.throw, error)


@pytest.mark.rows("S-50", "C46")
@pytest.mark.parametrize("how", ["session", "task"])
@pytest.mark.parametrize("sandbox", ["shared", "own"])
async def test_a_parent_that_is_cancelled_at_any_await_of_its_child_leaves_nothing(
    backend: CountingBackend,
    check_history: CheckHistory,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    how: str,
    sandbox: Literal["shared", "own"],
) -> None:
    whole, step, reached = AgentRunner.run_agent, 0, True
    touching = {"tool_calls": [{"name": "touch"}], "usage": CHILD_USAGE}
    while reached:
        step += 1
        client = Two([delegating(), {"text": "Done."}], [touching, {"text": "Touched."}])
        handler = DelegateHandler(sandbox=sandbox)
        directory = tmp_path / str(step)
        session = session_of(client, handler=handler, backend=backend, directory=directory)
        session.registry.register(Touch())
        running, waits = asyncio.create_task(session.run("Go.")), list[None]()
        strike = session.cancel if how == "session" else running.cancel

        async def run(self: AgentRunner, task: AgentTask, at: tuple[Any, ...]) -> AgentReport:
            report: AgentReport = await struck(whole(self, task), *at)
            return report

        at = (step, strike, waits)
        monkeypatch.setattr(AgentRunner, "run_agent", functools.partialmethod(run, at=at))
        await asyncio.wait([running])
        reached = len(waits) >= step
        assert session.state.status == ("cancelled" if reached else "completed")
        check_history(session.state.messages)
        loaded = State.from_jsonl((directory / "trace.jsonl").read_bytes())
        assert (loaded.messages, loaded.usage) == (session.state.messages, session.state.usage)
        await session.close()
        assert not backend.live
        assert asyncio.all_tasks() == {asyncio.current_task()}
    assert step > 6


async def test_a_delegate_has_ended_before_its_parents_run_whatever_its_tool_does(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("paddock.runtime.core.execution.CANCEL_TIMEOUT", 0.05)
    working, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Slow(ToolHandler):
        name = "slow"
        description = "Takes its time to end."
        parameters: ClassVar[dict[str, Any]] = {"type": "object"}

        async def handle(self, invocation: ToolInvocation) -> ToolOutput:
            working.set()
            try:
                await asyncio.Event().wait()
            finally:
                await may_end.wait()
                ended.set()
            return ToolOutput(content="never")

    client = Two([delegating()], [{"tool_calls": [{"name": "slow", "arguments": {}}]}])
    async with session_of(client, handler=DelegateHandler()) as session:
        session.registry.register(Slow())
        run = asyncio.create_task(session.run("Go."))
        async with asyncio.timeout(60):
            await working.wait()
            session.cancel()
            assert (await run).status == "cancelled"
            may_end.set()
            await ended.wait()
    left = [record.getMessage() for record in caplog.records if "did not end" in record.msg]
    assert left == ["tool slow did not end when it was cancelled"], "the delegate is not one"
