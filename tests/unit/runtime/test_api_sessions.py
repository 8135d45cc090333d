"""Runtimes over a session that is there already, their handles, and their closing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    AgentHandle,
    AgentRuntime,
    Budget,
    CancellationToken,
    ConfigError,
    PermissionProfile,
    RunResult,
    RuntimeOptions,
    ScriptedModel,
    close_runtime,
    create_runtime,
    dispatch_prompt,
    load_profile,
    reconfigure_runtime,
    run_prompt,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paddock import Session, ToolHandler
    from tests.unit.runtime.conftest import CountingBackend, Function, OpenSession

ASKING = PermissionProfile.from_dict({"profile": "asking", "approval": {"mode": "all"}})
REFUSING: dict[str, Any] = {"profile": ASKING, "auto_approve": False}


def call(name: str) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": {}}]}


def scripted(runtime: AgentRuntime, script: Sequence[Any]) -> AgentRuntime:
    """The same runtime, whose model is a script."""
    runtime.session._resources.given_client = ScriptedModel(script)
    return runtime


@pytest.fixture
def ran() -> list[str]:
    return []


@pytest.fixture
def one(ran: list[str]) -> Function:
    def one() -> str:
        ran.append("one")
        return "1"

    return one


@pytest.mark.rows("O-4")
async def test_the_callback_of_a_given_session_is_asked_unless_another_is_given(
    open_session: OpenSession,
    one: Function,
    asking: Callable[[Function], ToolHandler],
    ran: list[str],
) -> None:
    session = open_session([call("one")] * 3 + [{"text": "ok"}], asking(one))
    session.approval_callback = lambda name, arguments: False
    runtime = create_runtime("x", session=session)
    await run_prompt(runtime, "Go.")
    reconfigure_runtime(runtime, auto_approve=True)
    await run_prompt(runtime, "Go on.")
    assert ran == []
    runtime = create_runtime("x", session=session, approval_callback=lambda *call: True)
    await run_prompt(runtime, "Now.")
    assert ran == ["one"]


async def test_the_cancel_check_of_a_given_session_stays_unless_another_is_given(
    open_session: OpenSession,
) -> None:
    session = open_session([{"text": "never"}])
    session.cancel_check = lambda: True
    runtime = create_runtime("x", session=session)
    assert (await run_prompt(runtime, "Go.")).status == "cancelled"
    create_runtime("x", session=session, cancel_check=bool)
    assert session.cancel_check is bool


@pytest.mark.rows("O-4")
async def test_auto_approve_holds_over_the_agent_of_a_given_session(
    open_session: OpenSession, one: Function, ran: list[str]
) -> None:
    script = [call("one"), call("one"), {"text": "ok"}, call("one")]
    session = open_session(script, one, config=REFUSING)
    await run_prompt(create_runtime("x", session=session), "Go.")
    assert ran == []
    for approving, runs in ((True, 1), (False, 1)):
        options = RuntimeOptions(auto_approve=approving)
        await run_prompt(create_runtime("x", session=session, options=options), "Go.")
        assert len(ran) == runs


@pytest.mark.rows("O-5", "O-13")
def test_a_runtime_over_a_session_keeps_its_profile_and_its_working_directory(
    open_session: OpenSession,
) -> None:
    session = open_session([], config={"profile": "developer", "working_dir": "/srv/work"})
    runtime = create_runtime("x", session=session)
    assert runtime.profile_name == "developer"
    assert reconfigure_runtime(runtime, auto_approve=False) == load_profile("developer")
    assert session.registry.profile == load_profile("developer")
    assert session.agent.config.working_dir == runtime.options.working_dir == "/srv/work"


def test_secrets_and_a_budget_are_of_the_session_that_is_made(open_session: OpenSession) -> None:
    options = RuntimeOptions(secrets={"TOKEN": "verysecretvalue"}, budget=Budget(turns=3))
    assert "verysecretvalue" not in repr(options)
    session = create_runtime("x", options=options).session
    assert session.redactor.text("a verysecretvalue") != "a verysecretvalue"
    assert session.budget == Budget(turns=3)
    for given in (replace(options, budget=None), replace(options, secrets={})):
        with pytest.raises(ConfigError, match="when it is made"):
            create_runtime("x", session=open_session([]), options=given)


async def test_what_runs_after_closing_is_taken_down_by_closing_again(
    backend: CountingBackend,
) -> None:
    runtime = create_runtime("x", options=RuntimeOptions(backend=backend))
    with pytest.raises(ValueError, match="'bogus' is not a status"):
        await close_runtime(runtime, "bogus")
    for _ in range(2):
        await runtime.session.get_sandbox()
        await close_runtime(runtime)
        assert backend.live == []
    with pytest.raises(ValueError, match="'bogus' is not a status"):
        async with runtime:
            await runtime.session.get_sandbox()
            runtime.close_status = "bogus"
    assert backend.live == []


@pytest.mark.rows("O-11")
async def test_cancelling_a_handle_leaves_the_others_that_share_its_token(
    open_session: OpenSession,
) -> None:
    begun = asyncio.Semaphore(0)

    async def slow() -> str:
        begun.release()
        return await asyncio.Future()

    shared = CancellationToken()

    def dispatch(session: Session) -> AgentHandle:
        return dispatch_prompt(create_runtime("x", session=session), "Go.", token=shared)

    handles = [dispatch(open_session([call("slow")], slow)) for _ in range(3)]
    async with asyncio.timeout(60):
        for _ in handles:
            await begun.acquire()
        handles[0].cancel("only this")
        assert (await handles[0].wait()).status == "cancelled"
        assert [handle.status for handle in handles[1:]] == ["running", "running"]
        assert not shared.is_cancelled()
        shared.cancel("all")
        ended = [await handle.wait() for handle in handles[1:]]
    assert [(result.status, result.reason) for result in ended] == [("cancelled", "all")] * 2


async def test_a_handle_without_a_token_cancels_its_task(open_session: OpenSession) -> None:
    runtime = create_runtime("x", session=open_session([]))
    waiting: asyncio.Future[RunResult] = asyncio.Future()

    async def wait() -> RunResult:
        return await waiting

    handle = AgentHandle(runtime=runtime, prompt="x", task=asyncio.create_task(wait()))
    handle.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handle.wait()
    assert handle.status == "cancelled"
