"""Calls that somebody has to approve: who is asked, and what becomes of what was refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from paddock.runtime.core.approval import ApprovalInterrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from paddock.runtime.conversation.results import AgentEvent
    from paddock.runtime.core.model import Message
    from paddock.runtime.tools.base import ToolHandler
    from tests.unit.runtime.conftest import CountingBackend, Function, OpenSession

    CheckHistory = Callable[[Sequence[Message]], None]


def echo(text: str = "") -> str:
    return f"echo: {text}"


def call(name: str, /, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def results(messages: Sequence[Message]) -> list[str]:
    return [message["content"] for message in messages if message["role"] == "tool"]


def kinds(events: Sequence[AgentEvent]) -> list[str]:
    return [event.type for event in events]


@pytest.mark.rows("S-26")
async def test_calls_that_need_approval_are_asked_for_in_order_before_any_runs(
    open_session: OpenSession, asking: Callable[[Function], ToolHandler]
) -> None:
    order: list[str] = []

    def danger(name: str) -> str:
        order.append(f"ran {name}")
        return name

    async def approve(tool: str, arguments: dict[str, Any]) -> bool:
        order.append(f"asked {tool} {arguments.pop('name')}")
        return True

    turns = [{"tool_calls": [call("danger", name="a"), call("danger", name="b")]}, {"text": "Ok."}]
    session = open_session(turns, asking(danger))
    session.approval_callback = approve
    await session.run(prompt="Go.")
    assert order == ["asked danger a", "asked danger b", "ran a", "ran b"]


@pytest.mark.rows("S-26")
async def test_a_rejection_blocks_its_call_and_skips_the_rest(
    open_session: OpenSession,
    asking: Callable[[Function], ToolHandler],
    check_history: CheckHistory,
    tmp_path: Path,
) -> None:
    def danger() -> str:
        raise AssertionError("it was rejected")

    turns = [{"tool_calls": [call("echo", text="1"), call("danger"), call("echo", text="2")]}]
    session = open_session(turns, echo, asking(danger), session_dir=tmp_path)
    session.approval_callback = lambda tool, arguments: False
    result = await session.run(prompt="Go.")
    assert result.status == "completed"
    assert results(session.state.messages) == [
        "echo: 1",
        "Command rejected by user. Awaiting new instructions.",
        "Command skipped - user rejected previous command.",
    ]
    assert kinds(result.events)[-2:] == ["tool_blocked", "turn_complete"]
    check_history(session.state.messages)
    trace = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    (decision,) = [line for line in trace if line["type"] == "approval"]
    assert decision["approved"] is False
    assert "tool_blocked" in [line["type"] for line in trace]


@pytest.mark.rows("C54")
async def test_a_callback_that_fails_has_not_approved(
    open_session: OpenSession, asking: Callable[[Function], ToolHandler]
) -> None:
    def danger() -> str:
        raise AssertionError("it was not approved")

    def broken(tool: str, arguments: dict[str, Any]) -> bool:
        raise RuntimeError("no terminal")

    session = open_session([{"tool_calls": [call("danger")]}], asking(danger))
    session.approval_callback = broken
    result = await session.run(prompt="Go.")
    assert "tool_blocked" in kinds(result.events)


@pytest.mark.rows("S-26")
async def test_an_interrupt_leaves_the_turns_calls_open_until_the_next_prompt(
    open_session: OpenSession,
    asking: Callable[[Function], ToolHandler],
    check_history: CheckHistory,
) -> None:
    def danger() -> str:
        raise AssertionError("nobody approved it")

    def later(tool: str, arguments: dict[str, Any]) -> bool:
        raise ApprovalInterrupt("ask again tomorrow")

    turns = [{"tool_calls": [call("echo"), call("danger")]}, {"text": "Fine."}]
    session = open_session(turns, echo, asking(danger))
    session.approval_callback = later
    result = await session.run(prompt="Go.")
    assert result.status == session.state.status == "interrupted"
    event = result.events[-1]
    assert (event.type, event.tool_name, event.content) == (
        "interruption",
        "danger",
        "ask again tomorrow",
    )
    assert [each.name for each in session.state.open_calls] == ["echo", "danger"]
    assert (await session.run(prompt="Never mind.")).status == "completed"
    assert all("Not run" in text for text in results(session.state.messages))
    check_history(session.state.messages)


@pytest.mark.rows("S-27")
@pytest.mark.parametrize(("auto_approve", "status"), [(True, "completed"), (False, "interrupted")])
async def test_without_a_callback_auto_approve_decides(
    open_session: OpenSession,
    asking: Callable[[Function], ToolHandler],
    auto_approve: bool,
    status: str,
) -> None:
    turns = [{"tool_calls": [call("echo")]}, {"text": "Done."}]
    session = open_session(turns, asking(echo), config={"auto_approve": auto_approve})
    assert (await session.run(prompt="Go.")).status == status


@pytest.mark.rows("S-42", "S-26")
async def test_a_dangerous_pattern_of_the_profile_brings_a_person_in(
    open_session: OpenSession, backend: CountingBackend
) -> None:
    asked: list[object] = []

    async def refuse(tool: str, arguments: dict[str, Any]) -> bool:
        asked.append((tool, arguments))
        return False

    turns = [{"tool_calls": [call("bash", command="cd a; rm -rf b"), call("echo")]}]
    session = open_session(turns, echo, config={"profile": "developer"})
    session.approval_callback = refuse
    await session.run(prompt="Clean up.")
    assert asked == [("bash", {"command": "cd a; rm -rf b"})]
    assert results(session.state.messages)[0].startswith("Command rejected by user.")
    assert not backend.made, "nothing ran, so nothing had to be made"
