"""Typed events in envelopes: what they say of an event, who gets them, and in which order."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from paddock import ConfigError, ExecTimeout, SetupFailed
from paddock.backends.local import LocalBackend
from paddock.process import CommandFinished
from paddock.runtime.conversation.trace import read_records
from paddock.runtime.core.context import RunContext  # noqa: TC001 - the fixture looks at signatures
from paddock.runtime.core.emitter import TOP, Emitter, EventSink, Origin
from paddock.runtime.core.events import (
    ModelFinished,
    ProvisionFinished,
    ProvisionStarted,
    RunFinished,
    RunStarted,
    TextAdded,
    ToolFinished,
    ToolStarted,
)
from tests.unit.runtime.delegating import CHILD_USAGE, USAGE, Two, delegating, running, session_of

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.runtime.core.emitter import Envelope
    from tests.unit.runtime.conftest import OpenSession

SECRET = "hunter2-hunter2"


class Awaited(EventSink):
    async def keep(self, envelope: Envelope) -> None:  # type: ignore[override]
        raise AssertionError("it cannot be awaited")


@pytest.mark.parametrize("wrong", [Awaited(), EventSink, object()])
def test_what_is_no_sink_is_refused_where_it_is_given(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"EventSink|keep cannot be async"):
        Emitter([wrong], session_id="s")


class Seen(EventSink):
    """What it was given to keep and to show, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Envelope]] = []

    def keep(self, envelope: Envelope) -> None:
        self.told.append(("keep", envelope))

    async def show(self, envelope: Envelope) -> None:
        self.told.append(("show", envelope))

    @property
    def shown(self) -> list[Envelope]:
        return [envelope for how, envelope in self.told if how == "show"]


async def look() -> str:
    return "a tree"


TURNS = [{"text": "I look.", "tool_calls": [{"name": "look"}]}, {"text": "Seen."}]


async def test_a_run_can_be_iterated_as_typed_events(open_session: OpenSession) -> None:
    session = open_session(TURNS, look)
    async with session.stream_events("Look.") as events:
        seen = [envelope async for envelope in events]
    assert events.result.text == "Seen."
    assert isinstance(seen[0].event, RunStarted)
    assert isinstance(seen[-1].event, RunFinished)
    assert [e.event.tool_name for e in seen if isinstance(e.event, ToolStarted)] == ["look"]
    assert [e.event.content for e in seen if isinstance(e.event, ToolFinished)] == ["a tree"]
    assert {(e.session_id, e.run_id, e.origin) for e in seen} == {(session.id, 1, TOP)}
    times, numbers = [e.at for e in seen], [e.seq for e in seen]
    assert times == sorted(times)
    assert sorted(set(numbers)) == list(range(1, len(numbers) + 1)), "each once, none left out"


async def test_the_runs_of_a_session_are_told_apart(open_session: OpenSession) -> None:
    session, seen = open_session([{"text": "1"}, {"text": "2"}]), Seen()
    session.sinks = [seen]
    await session.run("One.")
    await session.run("Two.")
    started = [e for e in seen.shown if isinstance(e.event, RunStarted)]
    assert [(e.run_id, e.seq) for e in started] == [(1, 1), (2, 1)]


async def test_what_an_agent_below_does_is_seen_above_under_its_path() -> None:
    client = Two(
        [delegating(), {"text": "There are two.", "usage": USAGE}],
        [running("true"), {"text": "Two files.", "usage": CHILD_USAGE}],
    )
    async with session_of(client) as session, session.stream_events("How many?") as events:
        seen = [envelope async for envelope in events]
    below = [e for e in seen if e.origin != TOP]
    started = [(e.origin, e.event) for e in seen if isinstance(e.event, ToolStarted)]
    (call,) = [event.call_id for origin, event in started if origin == TOP]
    assert {e.origin for e in below} == {Origin(agent_path=("delegate",), parent_call_id=call)}
    assert {e.session_id for e in below}.isdisjoint({session.id})
    assert [e.event.tool_name for e in below if isinstance(e.event, ToolStarted)] == ["bash"]
    assert isinstance(below[-1].event, RunFinished)
    assert len({e.seq for e in seen}) == len(seen)
    assert [event.tool_name for event in events.result.events if event.type == "tool_start"] == [
        "delegate"
    ], "the SDK shows the agent's own calls"


async def test_an_event_is_in_the_trace_and_with_every_sink_before_it_is_shown(
    open_session: OpenSession, tmp_path: Path
) -> None:
    class Reader(Seen):
        async def show(self, envelope: Envelope) -> None:
            if isinstance(envelope.event, ToolFinished):
                kept = read_records((tmp_path / "trace.jsonl").read_bytes()).records
                assert any(each["type"] == "tool_end" for each in kept)
            await super().show(envelope)

    session, first, second = open_session(TURNS, look, session_dir=tmp_path), Reader(), Seen()
    await session.run("Look.", sinks=[first, second])
    for sink in (first, second):
        for envelope in sink.shown:
            kept, shown = sink.told.index(("keep", envelope)), sink.told.index(("show", envelope))
            assert kept < shown


async def test_a_sink_gets_no_secrets(open_session: OpenSession) -> None:
    async def tell() -> str:
        return f"it is {SECRET}"

    calls = [{"text": SECRET, "tool_calls": [{"name": "tell"}]}, {"text": f"so {SECRET}"}]
    session, seen = open_session(calls, tell), Seen()
    await session.run(f"Say {SECRET}", secrets={"PASSWORD": SECRET}, sinks=[seen])
    assert any(isinstance(e.event, TextAdded) for e in seen.shown)
    assert SECRET not in repr(seen.told)


async def test_a_sink_that_cannot_keep_an_event_ends_the_run(open_session: OpenSession) -> None:
    class Full(EventSink):
        def keep(self, envelope: Envelope) -> None:
            if isinstance(envelope.event, ToolStarted):
                raise OSError("no space left")

    ran = []

    async def write() -> str:
        ran.append(1)
        return "written"

    session = open_session([{"tool_calls": [{"name": "write"}]}, {"text": "Done."}], write)
    with pytest.raises(OSError, match="no space left"):
        await session.run("Write.", sinks=[Full()])
    assert ran == []
    assert session.state.status == "error"


async def test_leaving_the_stream_early_cancels_the_run(open_session: OpenSession) -> None:
    session = open_session(TURNS, look)
    async with session.stream_events("Look.") as events:
        async for envelope in events:
            if isinstance(envelope.event, ModelFinished):
                break
    assert events.result.status == "cancelled"


async def test_the_sandbox_of_a_run_and_its_commands_are_told(open_session: OpenSession) -> None:
    async def work(context: RunContext[None]) -> str:
        sandbox = await context.sandbox()
        with contextlib.suppress(ExecTimeout):
            await sandbox.exec("exec sleep 60", timeout=0.05)
        return str((await sandbox.exec("exit 3")).exit_code)

    backend = LocalBackend(isolation="none", setup=["true"])
    turns = [{"tool_calls": [{"name": "work"}]}, {"text": "Done."}]
    async with open_session(turns, work, config={"backend": backend}) as session:
        async with session.stream_events("Work.") as events:
            seen = [envelope async for envelope in events]
        sandbox = await session.get_sandbox()
        await sandbox.exec("true")  # of no run
    kinds = (ToolStarted, ProvisionStarted, ProvisionFinished, CommandFinished, ToolFinished)
    told = [e.event for e in seen if isinstance(e.event, kinds)]
    assert [type(event).__name__ for event in told] == [
        "ToolStarted",
        "ProvisionStarted",
        "CommandFinished",
        "ProvisionFinished",
        "CommandFinished",
        "CommandFinished",
        "ToolFinished",
    ]
    commands = [event for event in told if isinstance(event, CommandFinished)]
    assert [(each.exit_code, each.error) for each in commands] == [
        (0, None),
        (None, "ExecTimeout"),
        (3, None),
    ]
    assert {each.sandbox_id for each in commands} == {sandbox.id}
    assert [e.seq for e in seen] == sorted({e.seq for e in seen})


async def test_a_sandbox_that_cannot_be_made_is_told(open_session: OpenSession) -> None:
    async def work(context: RunContext[None]) -> str:
        return str(await context.sandbox())

    backend, seen = LocalBackend(isolation="none", setup=["exit 1"]), Seen()
    turns = [{"tool_calls": [{"name": "work"}]}, {"text": "Done."}]
    async with open_session(turns, work, config={"backend": backend}) as session:
        with pytest.raises(SetupFailed):
            await session.run("Work.", sinks=[seen])
    told = [e.event for how, e in seen.told if how == "keep"]
    (ended,) = [event for event in told if isinstance(event, ProvisionFinished)]
    assert (ended.backend, ended.sandbox_id, ended.error) == ("local", None, "SetupFailed")


async def test_what_closes_the_run_of_a_process_that_died_is_told(
    open_session: OpenSession, tmp_path: Path
) -> None:
    session = open_session(TURNS, look, session_dir=tmp_path)
    await session.run("Look.")
    trace = tmp_path / "trace.jsonl"
    lines = trace.read_text().splitlines(keepends=True)
    begun = next(n for n, line in enumerate(lines) if '"tool_start"' in line)
    trace.write_text("".join(lines[: begun + 1]) + '{"type": "tor')
    again, seen = open_session([{"text": "Again."}], look, session_dir=tmp_path), Seen()
    again.sinks = [seen]
    await again.run("Look again.")
    told = [(type(e.event).__name__, e.run_id) for how, e in seen.told if how == "keep"][:4]
    assert told == [
        ("TraceRepaired", 0),
        ("ToolFinished", 0),
        ("RunFinished", 0),
        ("RunStarted", 2),
    ]
    assert {e.session_id for _, e in seen.told} == {session.id}, "which the trace tells"


async def test_what_is_passed_on_is_counted_in_its_new_place() -> None:
    seen = Seen()
    above = Emitter([seen], session_id="above")
    below = Emitter([], session_id="below", origin=above.origin.below("ask", "c-1"))
    await above.emit(TextAdded(text="1"))
    await above.show(above.keep_below(below.keep(TextAdded(text="2"))))
    await above.emit(TextAdded(text="3"))
    assert [(e.seq, e.session_id) for e in seen.shown] == [
        (1, "above"),
        (2, "below"),
        (3, "above"),
    ]
    assert [envelope for how, envelope in seen.told if how == "keep"] == seen.shown
