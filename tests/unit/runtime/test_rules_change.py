"""What calls are made by, changed in the middle of a run: the profile, and who approves."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    Agent,
    AgentConfig,
    AgentToolHandler,
    LocalBackend,
    PermissionProfile,
    RunResult,
    Session,
    load_profile,
)
from paddock.runtime.conversation.trace import read_records
from paddock.runtime.permissions.profile import ApprovalMode
from tests.unit.runtime.delegating import Two, delegating, running, session_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from paddock import AgentEvent, ModelEvent, ModelRequest
    from tests.unit.runtime.conftest import OpenSession

pytestmark = pytest.mark.rows("C55")

WRITE = {"name": "write", "arguments": {"path": "made.txt", "content": "x"}}
DONE = {"text": "Done."}
READONLY, DEVELOPER = load_profile("readonly"), load_profile("developer")
ASKED = replace(DEVELOPER, approval=ApprovalMode.ALL)
HERE: dict[str, Any] = {"backend": LocalBackend(isolation="none")}
NO_TOOL = "Unknown tool: write"


def become(session: Session, profile: PermissionProfile, *, auto_approve: bool = False) -> None:
    config = replace(session.agent.config, profile=profile, auto_approve=auto_approve)
    session.use(session.agent.replace(config))


def results(result: RunResult) -> list[str | None]:
    return [event.tool_result for event in result.events if event.type == "tool_end"]


def rules_in(directory: Path) -> list[tuple[str, str, str]]:
    """What the trace tells of rules and of calls, in order."""
    kept = []
    for record in read_records((directory / "trace.jsonl").read_bytes()).records:
        match record:
            case {"type": "run_start" | "rules_changed" as kind}:
                kept.append((kind, record["profile"], record["approvals"]))
            case {"type": "tool_start", "tool_name": name}:
                kept.append(("tool_start", name, ""))
    return kept


async def test_another_profile_holds_from_the_next_call_of_the_run(
    open_session: OpenSession, tmp_path: Path
) -> None:
    turns = [{"tool_calls": [WRITE]}, {"tool_calls": [WRITE]}, {"tool_calls": [WRITE]}, DONE]
    session = open_session(turns, session_dir=tmp_path / "s", config=HERE | {"profile": READONLY})
    profiles = iter([ASKED, READONLY])

    async def change(event: AgentEvent) -> None:
        if event.type == "tool_end" and (profile := next(profiles, None)):
            become(session, profile, auto_approve=True)

    async with session:
        result = await session.run("Write it.", on_event=change)
    assert results(result) == [NO_TOOL, "Created made.txt (1 bytes, 1 lines)", NO_TOOL]
    assert rules_in(tmp_path / "s") == [
        ("run_start", READONLY.name, "automatic"),
        ("tool_start", "write", ""),
        ("rules_changed", ASKED.name, "automatic"),
        ("tool_start", "write", ""),
        ("rules_changed", READONLY.name, "automatic"),
        ("tool_start", "write", ""),
    ]


async def test_the_model_is_told_the_tools_that_hold(open_session: OpenSession) -> None:
    offered: list[bool] = []

    def answering(turn: dict[str, Any]) -> Callable[[ModelRequest], dict[str, Any]]:
        def answer(request: ModelRequest) -> dict[str, Any]:
            offered.append(any(tool["function"]["name"] == "write" for tool in request.tools))
            return turn

        return answer

    turns = [answering({"tool_calls": [WRITE]}), answering(DONE)]
    session = open_session(turns, config=HERE | {"profile": DEVELOPER})
    async with session:
        await session.run("Go.", on_event=lambda _: become(session, READONLY))
    assert offered == [True, False]


async def test_what_was_approved_while_the_profile_changed_is_decided_again(
    open_session: OpenSession, tmp_path: Path
) -> None:
    session = open_session(
        [{"tool_calls": [WRITE]}, DONE],
        session_dir=tmp_path / "s",
        config=HERE | {"profile": ASKED},
    )
    asked: list[str] = []

    def approve(name: str, arguments: dict[str, Any]) -> bool:
        asked.append(session.registry.profile.name if session.registry.profile else "")
        if len(asked) == 1:
            become(session, replace(ASKED, name="stricter"))
        return True

    session.approval_callback = approve
    async with session:
        result = await session.run("Write it.")
    assert asked == [ASKED.name, "stricter"]
    assert results(result) == ["Created made.txt (1 bytes, 1 lines)"]
    told = rules_in(tmp_path / "s")
    assert told[1:] == [("rules_changed", "stricter", "asked"), ("tool_start", "write", "")]


async def test_a_tool_that_goes_while_its_call_is_approved_does_not_run(
    open_session: OpenSession,
) -> None:
    session = open_session([{"tool_calls": [WRITE]}, DONE], config=HERE | {"profile": ASKED})

    def approve(name: str, arguments: dict[str, Any]) -> bool:
        become(session, READONLY)
        return True

    session.approval_callback = approve
    async with session:
        result = await session.run("Write it.")
        assert results(result) == [NO_TOOL]
        assert not await (await session.get_sandbox()).fs.exists("made.txt")


async def test_a_refusal_stands_whatever_changes(open_session: OpenSession) -> None:
    session = open_session([{"tool_calls": [WRITE]}], config=HERE | {"profile": ASKED})
    asked: list[str] = []

    def refuse(name: str, arguments: dict[str, Any]) -> bool:
        asked.append(name)
        become(session, DEVELOPER, auto_approve=True)
        return False

    session.approval_callback = refuse
    async with session:
        result = await session.run("Write it.")
    assert asked == ["write"]
    assert [event.type for event in result.events].count("tool_blocked") == 1


async def test_calls_before_a_refused_one_are_decided_by_what_holds_then(
    open_session: OpenSession,
) -> None:
    danger = {"name": "bash", "arguments": {"command": "rm -r x"}}
    config = HERE | {"profile": DEVELOPER, "auto_approve": False}
    session = open_session([{"tool_calls": [WRITE, danger]}], config=config)

    def refuse(name: str, arguments: dict[str, Any]) -> bool:
        become(session, READONLY)
        return False

    session.approval_callback = refuse
    async with session:
        result = await session.run("Go.")
        assert not await (await session.get_sandbox()).fs.exists("made.txt")
    assert "Created" not in str(results(result))


async def test_somebody_else_is_asked_from_the_next_call(
    open_session: OpenSession, tmp_path: Path
) -> None:
    turns = [{"tool_calls": [WRITE]}, {"tool_calls": [WRITE]}, DONE]
    session = open_session(turns, session_dir=tmp_path / "s", config=HERE | {"profile": ASKED})
    asked: list[str] = []

    def first(name: str, arguments: dict[str, Any]) -> bool:
        asked.append("first")
        session.approval_callback = second
        return True

    def second(name: str, arguments: dict[str, Any]) -> bool:
        asked.append("second")
        return True

    session.approval_callback = first
    async with session:
        await session.run("Write it.")
    assert asked == ["first", "second"]
    kinds = [kind for kind, _, _ in rules_in(tmp_path / "s")]
    assert kinds == ["run_start", "tool_start", "tool_start"]  # somebody is asked, as before


async def test_without_anybody_to_ask_any_more_a_call_waits_under_what_holds(
    open_session: OpenSession, tmp_path: Path
) -> None:
    turns = [{"tool_calls": [WRITE]}, DONE]
    config = HERE | {"profile": DEVELOPER, "auto_approve": True}
    session = open_session(turns, session_dir=tmp_path / "s", config=config)

    def change(event: AgentEvent) -> None:
        if event.type == "api_call_complete":
            become(session, ASKED)

    async with session:
        result = await session.run("Write it.", on_event=change)
        assert result.status == "interrupted"
        (item,) = result.interruptions
        resumed = await session.resume({item.tool_call_id: True})
    assert results(resumed) == ["Created made.txt (1 bytes, 1 lines)"]
    assert rules_in(tmp_path / "s")[:2] == [
        ("run_start", DEVELOPER.name, "automatic"),
        ("rules_changed", ASKED.name, "later"),
    ]


class Noticing(Two):
    """Calls `notice` when the agent that works for the other asks for the second time."""

    notice: Callable[[], None]

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        if len(self.requests) == 1:
            self.notice()
        async for event in super().stream(request):
            yield event


async def test_agents_that_work_for_one_are_changed_with_it() -> None:
    client = Noticing([delegating(), DONE], [running("echo 1"), {"tool_calls": [WRITE]}, DONE])
    session = session_of(client, auto_approve=True)
    client.notice = lambda: become(session, READONLY, auto_approve=True)
    async with session:
        result = await session.run("Go.")
    assert result.status == "completed"
    last = client.requests[-1]
    assert NO_TOOL in [message.get("content") for message in last.messages]
    assert "write" not in {tool["function"]["name"] for tool in last.tools}


async def test_agents_that_work_for_one_ask_whom_it_asks_then() -> None:
    client = Noticing([delegating(), DONE], [running("echo 1"), {"tool_calls": [WRITE]}, DONE])
    session = session_of(client, profile=ASKED, auto_approve=True)
    asked: list[str] = []

    def refuse(name: str, arguments: dict[str, Any]) -> bool:
        asked.append(name)
        return False

    client.notice = lambda: setattr(session, "approval_callback", refuse)
    async with session:
        await session.run("Go.")
    assert asked == ["write"]


@pytest.mark.parametrize("withdrawn", [False, True])
async def test_what_is_approved_no_more_is_not_for_agents_of_their_own_configuration(
    withdrawn: bool,
) -> None:
    client = Noticing(
        [{"tool_calls": [{"name": "critic", "arguments": {"instruction": "x"}}]}, DONE],
        [running("echo 1"), {"tool_calls": [WRITE]}, DONE],
    )
    judge = Agent(AgentConfig(system_prompt="Judge.", profile=ASKED, **HERE))
    judge.registry.unregister("delegate")
    critic = AgentToolHandler(tool_name="critic", tool_description="Judges.", config=judge)
    session = session_of(client, profile=DEVELOPER, auto_approve=True)
    session.agent.registry.register(critic)
    client.notice = lambda: become(session, DEVELOPER, auto_approve=not withdrawn)
    async with session:
        result = await session.run("Go.")
    assert ("Created made.txt" in str(client.requests[-1].messages)) is not withdrawn
    assert result.status == "completed"


async def test_rules_that_are_made_anew_each_time_and_say_the_same_are_the_same(
    open_session: OpenSession,
) -> None:
    session = open_session([{"tool_calls": [WRITE]}, DONE], config=HERE | {"profile": DEVELOPER})
    session.approval_callback = lambda *_: True
    session.policy_override = lambda own: replace(own, registry=own.registry.without(()))
    async with asyncio.timeout(30):
        assert (await session.run("Go.")).status == "completed"
