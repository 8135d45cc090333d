"""Runs that wait for somebody to approve a call, and go on later, here or elsewhere."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import ConfigError, SessionError
from paddock.runtime.conversation.run_state import RunState
from paddock.runtime.core.approval import ApprovalInterrupt
from paddock.runtime.core.budget import Budget
from paddock.runtime.session.session import Session
from tests.unit.runtime.deploying import NOBODY, Deploys, call, echo, results

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from paddock.runtime.core.model import Message
    from paddock.runtime.tools.base import ToolHandler
    from tests.unit.runtime.conftest import Function, OpenSession

    Asking = Callable[[Function], ToolHandler]
    CheckHistory = Callable[[Sequence[Message]], None]


def records(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "trace.jsonl").read_text().splitlines()]


@pytest.mark.rows("O-20", "S-27")
async def test_a_run_that_has_nobody_to_ask_tells_which_calls_wait(
    waiting: Callable[[], Session], deploys: Deploys
) -> None:
    session = waiting()
    result = await session.run("Go.")
    assert result.status == "interrupted"
    assert [(i.tool_call_id, i.tool_name, i.tool_args) for i in result.interruptions] == [
        ("b", "deploy", {"where": "here"}),
        ("c", "deploy", {"where": "there"}),
    ]
    assert [event.tool_call_id for event in result.events if event.type == "interruption"] == [
        "b",
        "c",
    ]
    assert not deploys.done
    assert not results(session), "nothing of the turn ran"


@pytest.mark.rows("O-20", "C40")
async def test_decisions_take_the_run_up_in_a_new_session_of_the_directory(
    waiting: Callable[[], Session], deploys: Deploys, check_history: CheckHistory, tmp_path: Path
) -> None:
    await waiting().run("Go.")
    session = waiting()
    session.recover()
    assert session.state.status == "interrupted"
    waits = [item.tool_call_id for item in session.state.pending_approvals]
    result = await session.resume(dict.fromkeys(waits, True))
    assert (result.status, result.text, result.interruptions) == ("completed", "Done.", ())
    assert deploys.done == ["here", "there"]
    assert results(session) == ["echo: 1", "deployed here", "deployed there"]
    check_history(session.state.messages)
    written = records(tmp_path / "one")
    asked = {r["tool_call_id"]: r for r in written if r["type"] == "approval_required"}
    given = {r["tool_call_id"]: r for r in written if r["type"] == "approval"}
    assert asked.keys() == given.keys() == {"b", "c"}
    for name in given:
        assert given[name]["approved"] is True
        assert given[name]["arguments_sha256"] == asked[name]["arguments_sha256"]
    starts = [r for r in written if r["type"] == "run_start"]
    assert [start.get("resumed", False) for start in starts] == [False, True]
    assert session.state.run_count == 2


@pytest.mark.rows("O-20")
async def test_nothing_runs_before_every_call_of_the_turn_is_decided(
    waiting: Callable[[], Session], deploys: Deploys
) -> None:
    await waiting().run("Go.")
    first = await waiting().resume({"b": True})
    assert first.status == "interrupted"
    assert [item.tool_call_id for item in first.interruptions] == ["c"]
    assert not deploys.done
    assert (await waiting().resume({"c": True})).status == "completed"
    assert deploys.done == ["here", "there"], "the first decision was kept"


@pytest.mark.rows("O-20", "S-26")
async def test_a_refusal_ends_the_turn_as_one_of_the_callback_does(
    waiting: Callable[[], Session], deploys: Deploys, check_history: CheckHistory
) -> None:
    await waiting().run("Go.")
    session = waiting()
    result = await session.resume({"b": False, "c": True})
    assert result.status == "completed"
    assert not deploys.done
    assert results(session) == [
        "echo: 1",
        "Command rejected by user. Awaiting new instructions.",
        "Command skipped - user rejected previous command.",
    ]
    check_history(session.state.messages)


@pytest.mark.rows("C54")
async def test_a_decision_is_used_once_and_a_call_with_a_result_is_not_run_again(
    waiting: Callable[[], Session], deploys: Deploys
) -> None:
    await waiting().run("Go.")
    session = waiting()
    await session.resume({"b": True, "c": True})
    with pytest.raises(SessionError, match="no call of this session waits"):
        await session.resume({"b": True, "c": True})
    assert deploys.done == ["here", "there"]
    assert session.state.status == "completed"


async def test_a_decision_about_a_call_that_does_not_wait_changes_nothing(
    waiting: Callable[[], Session], tmp_path: Path
) -> None:
    await waiting().run("Go.")
    before = records(tmp_path / "one")
    session = waiting()
    with pytest.raises(SessionError, match="no such call waits for an approval: a, z"):
        await session.resume({"z": True, "b": True, "a": True})
    assert records(tmp_path / "one") == before
    assert session.state.status == "interrupted"
    assert json.loads((tmp_path / "one" / "meta.json").read_text())["status"] == "interrupted"


@pytest.mark.rows("C54")
async def test_what_was_asked_for_one_command_does_not_approve_another(
    waiting: Callable[[], Session], deploys: Deploys
) -> None:
    result = await waiting().run("Go.")
    assert result.state is not None
    kept = json.loads(json.dumps(result.state.to_dict()))
    call_b = kept["history"][-1]["tool_calls"][1]
    call_b["function"]["arguments"] = '{"where": "everywhere"}'
    forged = waiting()
    session = Session(
        forged.agent,
        state=RunState.from_dict(kept).to_state(),
        client=forged._resources.given_client,
    )
    with pytest.raises(SessionError, match="call b cannot be approved: its arguments"):
        await session.resume({"b": True, "c": True})
    assert (await session.resume({"b": False})).status == "completed", "but refused it can be"
    assert not deploys.done


@pytest.mark.rows("C54")
async def test_an_approval_is_for_the_profile_it_was_asked_under(
    waiting: Callable[[], Session], deploys: Deploys
) -> None:
    await waiting().run("Go.")
    session = waiting()
    profile = session.registry.profile
    assert profile is not None
    session.registry.profile = dataclasses.replace(profile, shell_timeout=1)
    with pytest.raises(SessionError, match="the profile"):
        await session.resume({"b": True, "c": True})
    assert not deploys.done


async def test_a_callback_may_decide_what_decisions_leave_open(
    waiting: Callable[[], Session], deploys: Deploys
) -> None:
    await waiting().run("Go.")
    asked: list[object] = []

    def approve(tool: str, arguments: dict[str, Any]) -> bool:
        asked.append(arguments)
        return True

    session = waiting()
    session.approval_callback = approve
    assert (await session.resume({"b": True})).status == "completed"
    assert asked == [{"where": "there"}]


async def test_an_answer_of_the_callback_before_its_interrupt_is_kept(
    waiting: Callable[[], Session], deploys: Deploys
) -> None:
    def approve(tool: str, arguments: dict[str, Any]) -> bool:
        if arguments["where"] == "there":
            raise ApprovalInterrupt("ask the other one")
        return True

    session = waiting()
    session.approval_callback = approve
    result = await session.run("Go.")
    assert [item.tool_call_id for item in result.interruptions] == ["c"]
    await waiting().resume({"c": True})
    assert deploys.done == ["here", "there"]


async def test_a_call_whose_arguments_could_not_be_read_is_not_run_later(
    open_session: OpenSession, asking: Asking, deploys: Deploys
) -> None:
    turns = [
        {"tool_calls": [{"name": "echo", "arguments": "{", "id": "a"}, call("deploy", "b")]},
        {"text": "Done."},
    ]
    session = open_session(turns, echo, asking(deploys.deploy), config=NOBODY)
    assert (await session.run("Go.")).status == "interrupted"
    (answer,) = results(session)
    assert answer.startswith("Invalid arguments")
    assert (await session.resume({"b": True})).status == "completed"
    assert len(results(session)) == 2


async def test_a_cancelled_resumption_gives_every_call_a_result(
    waiting: Callable[[], Session], deploys: Deploys, check_history: CheckHistory
) -> None:
    await waiting().run("Go.")
    session = waiting()
    session.cancel_check = lambda: True
    result = await session.resume({"b": True, "c": True})
    assert (result.status, result.reason) == ("cancelled", "cancel_check")
    assert not deploys.done
    check_history(session.state.messages)
    assert not session.state.pending_approvals


async def test_a_resumption_without_a_model_changes_nothing(
    waiting: Callable[[], Session], deploys: Deploys, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = waiting()
    first = await session.run("Go.")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert session.directory is not None
    without = Session(session.agent, session_dir=session.directory.path)
    with pytest.raises(ConfigError, match="no API key"):
        await without.resume({"b": True, "c": True})
    assert without.state.pending_approvals == first.interruptions
    assert (without.state.status, without.state.run_count) == ("interrupted", 1)
    assert (await waiting().resume({"b": True, "c": True})).status == "completed"
    assert deploys.done == ["here", "there"]


async def test_a_resumption_without_a_budget_leaves_the_calls_waiting(
    waiting: Callable[[], Session], deploys: Deploys
) -> None:
    await waiting().run("Go.")
    session = waiting()
    result = await session.resume({"b": True, "c": True}, budget=Budget(seconds=0))
    assert result.status == "interrupted"
    assert "the budget of 0 seconds is used up" in (result.reason or "")
    assert [item.tool_call_id for item in result.interruptions] == ["b", "c"]
    assert not deploys.done
    assert (await session.resume({"b": True, "c": True})).status == "completed"


async def test_calls_go_on_waiting_when_the_run_ends_while_one_is_asked_about(
    waiting: Callable[[], Session], deploys: Deploys
) -> None:
    await waiting().run("Go.")
    session = waiting()
    asked = asyncio.Event()

    async def never(tool: str, arguments: dict[str, Any]) -> bool:
        asked.set()
        await asyncio.Event().wait()
        return True

    session.approval_callback = never
    task = asyncio.create_task(session.resume({"b": True}))
    async with asyncio.timeout(60):
        await asked.wait()
        session.cancel()
        result = await task
    assert (result.status, result.reason) == ("interrupted", "requested")
    assert [item.tool_call_id for item in result.interruptions] == ["c"]
    assert result.state is not None
    assert (await waiting().resume({"c": True})).status == "completed"
    assert deploys.done == ["here", "there"]
