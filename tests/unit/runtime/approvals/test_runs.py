"""Runs whose calls are approved, refused and revised, by a callback or in a store."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import ConfigError, SessionError
from paddock.runtime.approvals.directory_store import DirectoryApprovalStore
from paddock.runtime.approvals.sqlite_store import SqliteApprovalStore
from paddock.runtime.core.approval import ApprovalInterrupt, Decision
from paddock.runtime.core.events import ApprovalRequested, ApprovalResolved, ModelStarted
from tests.unit.runtime.approvals.asking import Typed, until, waiting_in
from tests.unit.runtime.deploying import NOBODY, Deploys, call, echo, results

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from paddock.runtime.core.emitter import Envelope
    from paddock.runtime.core.model import Message, ModelRequest
    from paddock.runtime.session.session import Session
    from paddock.runtime.tools.base import ToolHandler
    from tests.unit.runtime.conftest import Function, OpenSession

    Asking = Callable[[Function], ToolHandler]
    CheckHistory = Callable[[Sequence[Message]], None]

APPROVE = Decision(outcome="approve")
DEPLOY = {"tool_calls": [call("deploy", "b", where="here")]}
DEADLINE = 60.0


# ------------------------------------------------------------------------ refusals


async def test_a_reason_reaches_the_model(
    open_session: OpenSession, asking: Asking, deploys: Deploys
) -> None:
    session = open_session([DEPLOY, {"text": "I see."}], asking(deploys.deploy))
    session.approval_callback = lambda *_: Decision(outcome="reject", feedback="not on Fridays")
    assert (await session.run("Go.")).status == "completed"
    assert results(session) == [
        "Command rejected by user. Reason: not on Fridays\nAwaiting new instructions."
    ]
    assert not deploys.done


@pytest.mark.parametrize("where", ["run", "session", "agent"])
async def test_a_refusal_need_not_end_the_turn(
    open_session: OpenSession, asking: Asking, deploys: Deploys, where: str,
    check_history: CheckHistory,
) -> None:  # fmt: skip
    calls = [
        call("echo", text="1"), call("deploy", "b", where="here"), call("echo", text="2"),
        call("deploy", "d", where="there"),
    ]  # fmt: skip

    def heard(request: ModelRequest) -> dict[str, Any]:
        check_history(request.messages[1:])
        return {"text": "Only there, then."}

    turns = [{"tool_calls": calls}, heard]
    config = {"on_refusal": "continue"} if where == "agent" else {}
    session = open_session(turns, echo, asking(deploys.deploy), config=config)
    session.approval_callback = lambda _, given: (
        given["where"] == "there" or Decision(outcome="reject", feedback="not here")
    )
    if where == "session":
        session.on_refusal = "continue"
    result = await session.run("Go.", on_refusal="continue" if where == "run" else None)
    assert (result.status, result.text) == ("completed", "Only there, then.")
    assert results(session) == [
        "echo: 1", "Command rejected by user. Reason: not here", "echo: 2", "deployed there",
    ]  # fmt: skip
    assert [event.tool_call_id for event in result.events if event.type == "tool_blocked"] == ["b"]


async def test_a_model_that_is_refused_again_and_again_waits_for_the_next_prompt(
    open_session: OpenSession, asking: Asking, deploys: Deploys
) -> None:
    session = open_session([DEPLOY] * 50, asking(deploys.deploy))
    session.approval_callback = lambda *_: False
    result = await session.run("Go.", on_refusal="continue")
    assert result.status == "completed"
    assert len(results(session)) == 8


async def test_what_a_refusal_does_has_to_be_known(open_session: OpenSession) -> None:
    with pytest.raises(ConfigError, match="on_refusal 'stop': give 'end_turn' or 'continue'"):
        await open_session([]).run("Go.", on_refusal="stop")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="on_refusal 'stop'"):
        open_session([], config={"on_refusal": "stop"})


# ------------------------------------------------------------------------- revised


async def test_somebody_can_change_the_arguments_and_the_model_reads_so(
    open_session: OpenSession, deploys: Deploys
) -> None:
    session = open_session([DEPLOY, {"text": "Ok."}], Typed(deploys.deploy, asks=True))
    session.approval_callback = lambda *_: Decision(
        outcome="revise", partial={"where": "staging"}, feedback="Never to production."
    )
    result = await session.run("Go.")
    assert deploys.done == ["staging"]
    assert results(session) == [
        'The user changed the arguments of this call. It ran with {"where": "staging"}. '
        "Never to production.\n\ndeployed staging"
    ]
    (started,) = [event for event in result.events if event.type == "tool_start"]
    assert started.tool_args == {"where": "staging"}


async def test_a_revision_that_does_not_fit_the_tool_runs_nothing(
    open_session: OpenSession, deploys: Deploys
) -> None:
    session = open_session([DEPLOY], Typed(deploys.deploy, asks=True))
    session.approval_callback = lambda *_: Decision(outcome="revise", partial={"wher": "x"})
    await session.run("Go.")
    assert not deploys.done
    assert "unknown argument 'wher'" in results(session)[0]


async def test_a_revision_without_arguments_asks_the_model_for_another_call(
    open_session: OpenSession, asking: Asking, deploys: Deploys
) -> None:
    calls = [call("deploy", "b", where="here"), call("echo")]
    session = open_session([{"tool_calls": calls}, {"text": "Ok."}], echo, asking(deploys.deploy))
    session.approval_callback = lambda *_: Decision(outcome="revise", feedback="Say where to.")
    assert (await session.run("Go.")).text == "Ok."
    assert results(session) == [
        "Not run: the user wants this call to be revised. Reason: Say where to.",
        "Command skipped - user asked to revise previous command.",
    ]


async def test_a_remark_with_an_approval_reaches_the_model(
    open_session: OpenSession, asking: Asking, deploys: Deploys
) -> None:
    session = open_session([DEPLOY, {"text": "Ok."}], asking(deploys.deploy))
    session.approval_callback = lambda *_: Decision(outcome="approve", feedback="Just this once.")
    await session.run("Go.")
    assert results(session) == ["The user approved this call: Just this once.\n\ndeployed here"]


def test_a_decision_that_means_nothing_is_an_error() -> None:
    bad: list[tuple[dict[str, Any], str]] = [
        ({"outcome": "yes"}, "outcome 'yes': give one of approve, reject, revise"),
        ({"outcome": "approve", "partial": {}}, "come with 'revise', not with 'approve'"),
        ({"outcome": "revise", "partial": ["x"]}, "give a mapping of arguments, not list"),
        ({"outcome": "revise", "partial": {"x": object()}}, "are not JSON"),
        ({"outcome": "revise", "partial": {"x": float("nan")}}, "are not JSON"),
    ]
    for fields, problem in bad:
        with pytest.raises(ConfigError, match=problem):
            Decision(**fields)


# ----------------------------------------------------------------------- callbacks


class Blocking:
    """A callback that approves when it is set free."""

    def __init__(self) -> None:
        self.free, self.asked = threading.Event(), threading.Event()

    def __call__(self, name: str, arguments: dict[str, Any]) -> bool:
        self.asked.set()
        return self.free.wait(DEADLINE)


async def test_a_callback_that_blocks_holds_up_nothing_else(
    open_session: OpenSession, asking: Asking, deploys: Deploys
) -> None:
    block = Blocking()
    session = open_session([DEPLOY, {"text": "Ok."}], asking(deploys.deploy))
    session.approval_callback = block
    running = asyncio.create_task(session.run("Go."))
    await until(block.asked.is_set)  # the loop runs while the callback blocks
    block.free.set()
    async with asyncio.timeout(DEADLINE):
        assert (await running).text == "Ok."


async def test_a_run_is_cancelled_while_a_callback_blocks(
    open_session: OpenSession, asking: Asking, deploys: Deploys
) -> None:
    block = Blocking()
    session = open_session([DEPLOY], asking(deploys.deploy))
    session.approval_callback = block
    running = asyncio.create_task(session.run("Go."))
    try:
        await until(block.asked.is_set)
        session.cancel()
        async with asyncio.timeout(DEADLINE / 2):
            assert (await running).status == "cancelled"
    finally:
        block.free.set()
    assert not deploys.done


# ------------------------------------------------------------------------- waiting


async def test_a_run_that_waits_in_place_goes_on_when_its_calls_are_answered(
    waiting: Callable[[], Session], deploys: Deploys, tmp_path: Path, check_history: CheckHistory
) -> None:
    session = waiting()
    session.approval_wait = True
    seen: list[Envelope] = []
    running = asyncio.create_task(collect(session, seen))
    other = DirectoryApprovalStore(tmp_path / "one")  # as another process opens it
    first, second = await waiting_in(session, 2)
    assert [first.request.call_id, second.request.call_id] == ["b", "c"]
    assert (first.request.session_id, first.request.run_id) == (session.id, 1)
    await other.resolve(second.request.id, APPROVE)  # in any order
    assert not deploys.done
    await other.resolve(first.request.id, Decision(outcome="approve", by="ann"))
    async with asyncio.timeout(DEADLINE):
        assert (await running) == "completed"
    assert deploys.done == ["here", "there"]
    check_history(session.state.messages)
    events = [each.event for each in seen]
    requested = [event for event in events if isinstance(event, ApprovalRequested)]
    resolved = [event for event in events if isinstance(event, ApprovalResolved)]
    assert [event.approval_id for event in requested] == [first.request.id, second.request.id]
    assert [(event.call_id, event.by) for event in resolved] == [("b", "ann"), ("c", None)]


async def collect(session: Session, seen: list[Envelope]) -> str:
    async with session.stream_events("Go.") as events:
        seen += [envelope async for envelope in events]
    return events.result.status


async def test_a_refusal_from_elsewhere_ends_the_turn_and_withdraws_the_rest(
    waiting: Callable[[], Session], deploys: Deploys, tmp_path: Path
) -> None:
    session = waiting()
    session.approval_wait = True
    running = asyncio.create_task(session.run("Go."))
    store = DirectoryApprovalStore(tmp_path / "one")
    first, second = await waiting_in(session, 2)
    await store.resolve(first.request.id, Decision(outcome="reject", feedback="No."))
    async with asyncio.timeout(DEADLINE):
        assert (await running).status == "completed"
    assert not deploys.done
    assert results(session)[1].startswith("Command rejected by user. Reason: No.")
    left = await store.get(second.request.id)
    assert left is not None
    assert left.status == "withdrawn"


async def test_a_request_that_nobody_answers_in_time_is_refused(
    waiting: Callable[[], Session], deploys: Deploys
) -> None:
    session = waiting()
    session.approval_wait, session.approval_timeout = True, 0.05
    async with asyncio.timeout(DEADLINE):
        assert (await session.run("Go.")).status == "completed"
    assert not deploys.done
    assert "Reason: nobody answered before" in results(session)[1]


async def test_a_run_that_waits_in_place_can_be_cancelled_and_resumed(
    waiting: Callable[[], Session], deploys: Deploys, tmp_path: Path
) -> None:
    session = waiting()
    session.approval_wait = True
    running = asyncio.create_task(session.run("Go."))
    store = DirectoryApprovalStore(tmp_path / "one")
    found = await waiting_in(session, 2)
    session.cancel()
    async with asyncio.timeout(DEADLINE):
        result = await running
    assert result.status == "interrupted"
    assert [item.approval_id for item in result.interruptions] == [e.request.id for e in found]
    for each in await store.list(status="pending"):
        await store.resolve(each.request.id, APPROVE)
    assert (await waiting().resume()).status == "completed"
    assert deploys.done == ["here", "there"]


# ------------------------------------------------------------------------ resuming


@pytest.mark.parametrize("kind", ["directory", "sqlite"])
async def test_what_was_answered_in_the_store_needs_no_decisions(
    waiting: Callable[[], Session], deploys: Deploys, tmp_path: Path, kind: str
) -> None:
    def open_it() -> Session:
        session = waiting()
        if kind == "sqlite":
            session.approval_store = SqliteApprovalStore(tmp_path / "approvals.db")
        return session

    session = open_it()
    await session.run("Go.")
    store = session.approval_store
    first, second = await store.list(status="pending")
    await store.resolve(first.request.id, APPROVE)
    again = await open_it().resume()
    assert again.status == "interrupted"
    assert [item.tool_call_id for item in again.interruptions] == ["c"]
    assert [event.tool_call_id for event in again.events if event.type == "interruption"] == ["c"]
    assert not deploys.done
    await store.resolve(second.request.id, Decision(outcome="revise", partial={"where": "staging"}))
    assert (await open_it().resume()).status == "completed"
    assert deploys.done == ["here", "staging"]
    assert await store.list(status="pending") == []
    with pytest.raises(SessionError, match="no call of this session waits"):
        await open_it().resume()


async def test_a_decision_answers_the_store_and_cannot_contradict_it(
    waiting: Callable[[], Session], deploys: Deploys, tmp_path: Path
) -> None:
    await waiting().run("Go.")
    store = DirectoryApprovalStore(tmp_path / "one")
    first, second = await store.list()
    await store.resolve(first.request.id, Decision(outcome="reject", by="ann"))
    trace = (tmp_path / "one" / "trace.jsonl").read_bytes()
    with pytest.raises(SessionError, match="call b was answered already"):
        await waiting().resume({"b": True, "c": True})
    with pytest.raises(SessionError, match="call c cannot be revised so: unknown argument"):
        await revising(waiting()).resume({"c": Decision(outcome="revise", partial={"x": 1})})
    assert (tmp_path / "one" / "trace.jsonl").read_bytes() == trace
    assert (await waiting().resume({"c": Decision(outcome="approve", by="bob")})).status == (
        "completed"
    )
    assert not deploys.done
    answered = await store.get(second.request.id)
    assert answered is not None
    assert answered.answer == Decision(outcome="approve", by="bob")


def revising(session: Session) -> Session:
    session.registry.register(Typed(Deploys().deploy, asks=True))
    return session


async def test_a_new_prompt_withdraws_what_waited_before_it_begins(
    open_session: OpenSession, asking: Asking, deploys: Deploys
) -> None:
    seen: list[list[str]] = []

    async def look(envelope: Envelope) -> None:
        if isinstance(envelope.event, ModelStarted):
            seen.append([each.status for each in await session.approval_store.list()])

    turns = [DEPLOY, {"text": "Fine."}]
    session = open_session(turns, asking(deploys.deploy), config=NOBODY)
    await session.run("Go.")
    async with session.stream_events("Never mind.") as events:
        async for envelope in events:
            await look(envelope)
    assert seen == [["withdrawn"]]


async def test_a_callback_that_cannot_answer_leaves_the_request_in_the_store(
    open_session: OpenSession, asking: Asking, deploys: Deploys
) -> None:
    def later(name: str, arguments: dict[str, Any]) -> bool:
        raise ApprovalInterrupt("a mail was sent")

    session = open_session([DEPLOY, {"text": "Done."}], asking(deploys.deploy))
    session.approval_callback = later
    result = await session.run("Go.")
    assert [event.content for event in result.events if event.type == "interruption"] == [
        "a mail was sent"
    ]
    (entry,) = await session.approval_store.list(status="pending")
    await session.approval_store.resolve(entry.request.id, APPROVE)
    assert (await session.resume()).status == "completed"
    assert deploys.done == ["here"]


async def test_a_store_that_cannot_be_written_is_an_error_and_nothing_runs(
    waiting: Callable[[], Session], deploys: Deploys, tmp_path: Path
) -> None:
    session = waiting()
    (tmp_path / "no").write_text("a file")
    session.approval_store = SqliteApprovalStore(tmp_path / "no" / "approvals.db")
    with pytest.raises(SessionError, match="cannot use the approval store"):
        await session.run("Go.")
    assert not deploys.done


# ------------------------------------------------------------------------ policies


# ---------------------------------------------------------------- agents, the service
