"""The agents that continue in calls that are entered again."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    Agent,
    AgentConfig,
    AgentToolHandler,
    ApprovalRequested,
    Decision,
    EventSink,
    MemoryApprovalStore,
    MemoryConversationStore,
    RunContext,
    Session,
    ToolHandler,
    tool,
)
from tests.unit.runtime.deploying import call
from tests.unit.runtime.resuming import PATIENCE, STORES, Model, Step, agent, calls, leave, said

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from paddock import ConversationStore, Envelope


def team(step: Step, store: ConversationStore, **settings: Any) -> tuple[Session, Model, Model]:
    """A boss whose call runs a worker, whose call is `step`."""
    below, top = Model(calls(step.name)), Model(calls("worker"))
    worker = Agent(AgentConfig(system_prompt="w", auto_approve=False), model=below)
    worker.registry.clear()
    worker.registry.register(step)
    handler = AgentToolHandler(
        tool_name="worker",
        tool_description="Works.",
        config=worker,
        input_schema={"type": "object", "additionalProperties": True},
    )
    session = Session(agent(handler), session_id="boss", store=store, client=top)
    session.keeps_open = True
    for name, value in settings.items():
        setattr(session, name, value)
    return session, top, below


@pytest.mark.rows("F-18", "F-38")
@pytest.mark.parametrize("make", STORES)
async def test_an_agent_continues_where_it_was_and_is_counted_once(
    tmp_path: Path, make: Callable[[Path], ConversationStore]
) -> None:
    step, store = Step(), make(tmp_path)
    session, top, below = team(step, store)
    async with session:
        await leave(session, step.began)
    session, *later = team(step, store)
    async with session:
        result = await session.resume()
    assert (result.status, result.text) == ("completed", "stepped")
    assert [each.answers for each in (top, below, *later)] == [1, 1, 1, 1]
    assert [resumed for *_, resumed in step.seen] == [False, True]
    assert result.usage["total_input_tokens"] == 40
    assert session.state.total.cost_usd == 2.0


@pytest.mark.rows("F-18", "F-38")
async def test_an_agent_that_had_ended_when_its_caller_died_is_not_asked_again() -> None:
    step, store = Step(), MemoryConversationStore()
    step.is_resumable = False
    session, top, below = team(step, store)

    @tool(resumable=True)
    async def worker(ctx: RunContext[None]) -> str:
        """Have two agents work, and wait for ever the first time."""
        said = [(await ctx.run_agent(text, agent=once)).text for text in ("a", "b")]
        if not ctx.is_resumed:
            step.began.set()
            await asyncio.Event().wait()
        return ", ".join(said)

    model = Model(lambda request: {"text": f"{request.messages[-1]['content']}!"})
    once = Agent(AgentConfig(system_prompt="o"), model=model)
    session.registry.register(worker)
    top._say = lambda request: (
        {"text": said(request)[0]} if said(request) else {"tool_calls": [call("worker", "w")]}
    )
    async with session:
        await leave(session, step.began)
        result = await session.resume()
    assert result.text == "a!, b!"
    assert model.answers == 2
    assert (below.answers, session.state.total.input_tokens) == (0, 40)


@pytest.mark.rows("F-37")
async def test_two_agents_that_use_the_same_call_id_get_each_their_own_answer() -> None:
    store, approvals = MemoryConversationStore(), MemoryApprovalStore()
    done: list[str] = []

    def opened() -> Session:
        made: list[ToolHandler] = []
        for name in ("left", "right"):
            effect = tool(name="effect", requires_approval=True)(_effect(name, done))
            worker = Agent(
                AgentConfig(system_prompt=name, auto_approve=False), model=Model(calls("effect"))
            )
            worker.registry.clear()
            worker.registry.register(effect)
            handler = AgentToolHandler(
                tool_name=name,
                tool_description=".",
                config=worker,
                input_schema={"type": "object", "additionalProperties": True},
            )
            made.append(handler)
        top = Model(calls("left", "right"))
        session = Session(agent(*made), session_id="boss", store=store, client=top)
        session.keeps_open = session.approval_wait = True
        session.approval_store = approvals
        return session

    async with opened() as session:
        assert (await leave(session, asked(session, 2))).status == "interrupted"
        waiting = await approvals.list(status="pending")
    paths = {each.request.agent_path: each.request for each in waiting}
    assert {each.call_id for each in paths.values()} == {"effect-1"}
    await approvals.resolve(paths["right",].id, Decision(outcome="approve"))
    await approvals.resolve(paths["left",].id, Decision(outcome="reject", feedback="Not you."))
    async with opened() as session:
        result = await session.resume(on_refusal="continue")
    assert result.status == "completed"
    assert done == ["right"]
    assert "Not you." in result.text
    assert len(await approvals.list()) == 2


class Asked(EventSink):
    def __init__(self, number: int) -> None:
        self.left = number
        self.event = asyncio.Event()

    async def show(self, envelope: Envelope) -> None:
        self.left -= isinstance(envelope.event, ApprovalRequested)
        if not self.left:
            self.event.set()


def asked(session: Session, number: int) -> asyncio.Event:
    """Return an event that is set when so many approvals were asked for."""
    sink = Asked(number)
    session.sinks = [sink]
    return sink.event


def _effect(name: str, done: list[str]) -> Callable[..., str]:
    def effect(x: int) -> str:
        """Have an effect."""
        done.append(name)
        return f"{name} {x}"

    return effect


@pytest.mark.rows("F-36", "F-38")
async def test_an_agent_that_waits_when_its_process_dies_is_resumed_elsewhere(
    tmp_path: Path,
) -> None:
    done: list[str] = []

    def opened(place: str) -> tuple[Session, Model]:
        effect = tool(name="effect", requires_approval=True)(_effect("w", done))
        below = Model(calls("effect"))
        worker = Agent(AgentConfig(system_prompt="w", auto_approve=False), model=below)
        worker.registry.clear()
        worker.registry.register(effect)
        handler = AgentToolHandler(tool_name="worker", tool_description=".", config=worker)
        top = Model(
            lambda request: (
                {"text": said(request)[0]}
                if said(request)
                else {"tool_calls": [call("worker", "c", instruction="Go.")]}
            )
        )
        session = Session(agent(handler), session_dir=tmp_path / place, client=top)
        session.approval_wait = True
        return session, below

    session, _ = opened("one")
    event = asked(session, 1)
    async with session, asyncio.timeout(PATIENCE):
        run = asyncio.create_task(session.run("Go."))
        await event.wait()
        shutil.copytree(tmp_path / "one", tmp_path / "two")  # what a kill would have left
        session.cancel()
        assert (await run).status == "cancelled"
    session, below = opened("two")
    (waiting,) = await session.approval_store.list(status="pending")
    assert waiting.request.agent_path == ("worker",)
    await session.approval_store.resolve(waiting.request.id, Decision(outcome="approve"))
    async with session:
        result = await session.resume()
    assert (result.status, result.text) == ("completed", "w 1")
    assert (done, below.answers) == (["w"], 1)


@pytest.mark.rows("F-37")
async def test_what_an_agent_asked_for_is_withdrawn_when_nobody_resumes_it() -> None:
    store, approvals = MemoryConversationStore(), MemoryApprovalStore()
    step = Step(asks=True)
    settings = {"approval_wait": True, "approval_store": approvals}
    session, *_ = team(step, store, **settings)
    async with session:
        for keeps_open in (True, False):
            session.keeps_open = keeps_open
            await leave(session, asked(session, 1))
            *before, last = [each.status for each in await approvals.list()]
            assert last == ("pending" if keeps_open else "withdrawn")
            assert set(before) <= {"withdrawn"}
    assert len(await approvals.list()) == 2


@pytest.mark.parametrize("make", STORES)
async def test_conversations_of_agents_go_with_that_of_their_caller(
    tmp_path: Path, make: Callable[[Path], ConversationStore]
) -> None:
    store = make(tmp_path)
    names = ["one", "one.", "one0"]

    def kept(name: str) -> list[tuple[ConversationStore, str]]:
        below = store.below(name)
        return [(store, name), (below, "a"), (below.below("a"), "b")]

    for each, key in itertools.chain.from_iterable(map(kept, names)):
        log = each.open(key)
        log.append({"type": "message", "role": "user", "content": "x"})
        log.close()
    store.open("one").close(delete=True)
    there = {name: {each.read(key) is not None for each, key in kept(name)} for name in names}
    assert there == {"one": {False}, "one.": {True}, "one0": {True}}


@pytest.mark.parametrize("make", STORES)
async def test_an_agent_with_a_name_for_its_conversation_remembers_its_callers(
    tmp_path: Path, make: Callable[[Path], ConversationStore]
) -> None:
    store = make(tmp_path)
    model = Model(lambda request: {"text": str(len(request.messages))})
    other = Agent(AgentConfig(system_prompt="o"), model=model)

    @tool
    async def ask(ctx: RunContext[None]) -> str:
        """Ask the other one."""
        return (await ctx.run_agent("Hello.", agent=other, conversation="other")).text

    for session_id, counted in (("a", "2"), ("b", "4")):
        top = Model(calls("ask"))
        top._say = lambda request: (
            {"text": said(request)[0]} if said(request) else {"tool_calls": [call("ask")]}
        )
        async with Session(agent(ask), session_id=session_id, store=store, client=top) as session:
            assert (await session.run("Go.")).text == counted
