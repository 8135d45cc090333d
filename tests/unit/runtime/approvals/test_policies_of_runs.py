"""Policies in place of questions, and approvals of agents below and of the service."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

from paddock import RunState, RuntimeOptions, create_runtime, run_prompt
from paddock.errors import ConfigError, SessionError
from paddock.runtime.approvals.directory_store import DirectoryApprovalStore
from paddock.runtime.approvals.policies import AskAlso, AskAlways, AskByProfile, AskNever, AskWhen
from paddock.runtime.approvals.sqlite_store import SqliteApprovalStore
from paddock.runtime.core.approval import Decision, ProposedCall
from paddock.runtime.permissions.profile import load_profile
from tests.unit.runtime.approvals.conftest import request
from tests.unit.runtime.delegating import Two, delegating, running, session_of
from tests.unit.runtime.deploying import NOBODY, Deploys, call, echo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from paddock import RunResult
    from paddock.runtime.core.approval import Approval, ApprovalStore
    from paddock.runtime.session.session import Session
    from paddock.runtime.tools.base import ToolHandler
    from tests.unit.runtime.conftest import Function, OpenSession

    Asking = Callable[[Function], ToolHandler]

DEPLOY = {"tool_calls": [call("deploy", "b", where="here")]}
DEADLINE = 60.0


# ------------------------------------------------------------------------ refusals


async def test_a_policy_decides_instead_of_the_tools(
    open_session: OpenSession, asking: Asking, deploys: Deploys
) -> None:
    asked: list[str] = []

    def note(name: str, arguments: dict[str, Any]) -> bool:
        asked.append(name)
        return True

    calls = [call("echo", text="1"), call("deploy", where="here"), call("unheard")]
    turns = [{"tool_calls": calls}, {"text": "Ok."}]
    for policy, expected in [
        (None, ["deploy"]),
        (AskNever(), []),
        (AskAlways(), ["echo", "deploy"]),
        (AskWhen(lambda each: each.args.get("text") == "1"), ["echo"]),
        (AskAlso(AskNever(), floor=AskWhen(lambda each: each.tool == "deploy")), ["deploy"]),
        (AskByProfile(load_profile("unrestricted")), []),
    ]:
        session = open_session(turns, echo, asking(deploys.deploy))
        session.approval_callback, session.approval_policy = note, policy
        await session.run("Go.")
        assert asked == expected
        asked.clear()


async def test_a_policy_that_fails_or_changes_its_call_lets_nothing_by(
    open_session: OpenSession, deploys: Deploys
) -> None:
    def fail(proposed: ProposedCall) -> bool:
        proposed.args["where"] = "elsewhere"
        raise RuntimeError("no rules today")

    for predicate in (fail, lambda _: None, lambda _: 0):
        session = open_session([DEPLOY, {"text": "Ok."}], deploys.deploy, config=NOBODY)
        session.approval_policy = AskWhen(predicate)  # type: ignore[arg-type]
        assert (await session.run("Go.")).status == "interrupted"
        assert not deploys.done


async def test_rules_that_change_whenever_they_are_looked_at_end_the_run(
    open_session: OpenSession, deploys: Deploys
) -> None:
    session = open_session([DEPLOY], deploys.deploy)
    looks = iter(range(10_000))

    def change(own: Any) -> Any:
        return dataclasses.replace(own, backend=f"backend-{next(looks)}")

    session.policy_override = change
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(SessionError, match="rules for tool calls changed 100 times"):
            await session.run("Go.")
    assert not deploys.done


async def first_pending(store: ApprovalStore) -> Approval:
    async with asyncio.timeout(DEADLINE):
        while not (found := await store.list(status="pending")):  # noqa: ASYNC110 - another's
            await asyncio.sleep(0.01)
    return found[0]


async def test_an_agents_calls_wait_in_the_store_of_the_session_it_works_for(
    tmp_path: Path,
) -> None:
    client = Two([delegating(), {"text": "Ok."}], [running("echo 1"), {"text": "No."}])
    session = session_of(client, auto_approve=False, directory=tmp_path / "one")
    session.approval_wait = True
    session.approval_policy = AskWhen(lambda each: each.tool == "bash")
    async with session:
        run = asyncio.create_task(session.run("Go."))
        store = DirectoryApprovalStore(tmp_path / "one")
        asked = (await first_pending(store)).request
        assert (asked.session_id, asked.agent_path) == (session.id, ("delegate",))
        await store.resolve(asked.id, Decision(outcome="reject", feedback="No echo."))
        async with asyncio.timeout(DEADLINE):
            assert (await run).status == "completed"
    assert await store.list(status="pending") == []


async def test_what_a_process_had_asked_that_died_is_withdrawn_by_the_next_run(
    waiting: Callable[[], Session], tmp_path: Path
) -> None:
    session = waiting()
    await session.run("Go.")
    again = waiting()
    left = request("left", session_id=again.id)
    await session.approval_store.ask(left)
    trace = tmp_path / "one" / "trace.jsonl"
    lines = trace.read_bytes().splitlines(keepends=True)
    trace.write_bytes(b"".join(line for line in lines if b'"run_end"' not in line))  # it died
    await again.resume({"b": False})
    statuses = {each.request.id: each.status for each in await session.approval_store.list()}
    assert statuses["left"] == "withdrawn"


async def test_a_runtime_with_a_store_lets_calls_wait_instead_of_refusing_them(
    tmp_path: Path,
) -> None:
    store = SqliteApprovalStore(tmp_path / "approvals.db")
    options = RuntimeOptions(
        model=scripted(tmp_path), profile="developer", auto_approve=False, approval_store=store
    )
    async with create_runtime("x", options=options) as runtime:
        result = await run_prompt(runtime, "Go.")
        assert result.status == "interrupted"
        waiting = await first_pending(store)
        assert waiting.request.session_id == runtime.session_id
        kept = RunState.from_dict(json.loads(json.dumps(as_dict(result))))
    await store.resolve(waiting.request.id, Decision(outcome="reject", feedback="No."))
    async with create_runtime("x", options=options) as other:  # as in another process
        resumed = await run_prompt(other, kept)
    assert resumed.status == "completed"
    assert [event.type for event in resumed.events].count("tool_blocked") == 1


def scripted(directory: Path) -> str:
    turn = {"tool_calls": [{"name": "bash", "arguments": {"command": "rm -rf x"}}]}
    (directory / "script.yaml").write_text(json.dumps([turn]))
    return f"scripted:{directory / 'script.yaml'}"


def as_dict(result: RunResult) -> dict[str, Any]:
    assert result.state is not None
    return result.state.to_dict()


async def test_a_store_within_the_sandboxes_reach_is_refused(
    open_session: OpenSession, tmp_path: Path
) -> None:
    config = {"backend": "local", "working_dir": str(tmp_path)}
    session = open_session([{"text": "Ok."}], config=config)
    session.approval_store = SqliteApprovalStore(tmp_path / "approvals.db")
    with pytest.raises(ConfigError, match=r"the approval store .* choose a file elsewhere"):
        await session.run("Go.")
