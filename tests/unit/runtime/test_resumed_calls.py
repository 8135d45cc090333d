"""Calls that are entered again after their run ended, and the agents that continue in them."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from typing import TYPE_CHECKING, Any, ClassVar

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
    ScriptedModel,
    Session,
    SqliteConversationStore,
    ToolHandler,
    ToolInvocation,
    ToolOutput,
    tool,
)
from paddock.runtime.conversation.traces import DirectoryConversationStore
from tests.unit.runtime.deploying import call

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from paddock import ConversationStore, Envelope, ModelRequest

PATIENCE = 60
USAGE = {"input_tokens": 10, "output_tokens": 1, "cost_usd": 0.5}

STORES = [
    pytest.param(lambda _: MemoryConversationStore(), id="memory"),
    pytest.param(lambda path: DirectoryConversationStore(path / "kept"), id="directory"),
    pytest.param(lambda path: SqliteConversationStore(path / "c.db"), id="sqlite"),
]


class Model(ScriptedModel):
    """Says what `answer` returns for each request, and counts its answers."""

    def __init__(self, answer: Callable[[ModelRequest], dict[str, Any]]) -> None:
        super().__init__([self._answer] * 99)
        self._say = answer
        self.answers = 0

    def _answer(self, request: ModelRequest) -> dict[str, Any]:
        self.answers += 1
        return {"usage": USAGE, **self._say(request)}


def said(request: ModelRequest) -> list[str]:
    """The results that the model has got for the last prompt."""
    found: list[str] = []
    for message in request.messages:
        found = [] if message["role"] == "user" else found
        if message["role"] == "tool":
            found.append(message["content"])
    return found


class Step(ToolHandler):
    """Hangs the first time that each call comes, until it is cancelled."""

    description = "A step."
    parameters: ClassVar[dict[str, Any]] = {"type": "object", "additionalProperties": True}

    def __init__(self, name: str = "step", *, resumable: bool = True, asks: bool = False) -> None:
        self.name = name
        self.is_resumable = resumable
        self.requires_approval = asks
        self.began = asyncio.Event()
        self.seen: list[tuple[str, dict[str, Any], bool]] = []

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        context = invocation.context
        self.seen.append((invocation.call_id, invocation.arguments, context.is_resumed))
        if not context.is_resumed:
            self.began.set()
            await asyncio.Event().wait()
        return ToolOutput("stepped")


def agent(*tools: ToolHandler, **config: Any) -> Agent:
    made = Agent(AgentConfig(system_prompt="x", auto_approve=False, **config))
    made.registry.clear()
    for each in tools:
        made.registry.register(each)
    return made


async def leave(session: Session, began: asyncio.Event, prompt: str = "Go.") -> Any:
    """Cancel a run of `prompt` once `began`."""
    async with asyncio.timeout(PATIENCE):
        run = asyncio.create_task(session.run(prompt))
        await began.wait()
        session.cancel()
        return await run


def calls(*names: str) -> Callable[[ModelRequest], dict[str, Any]]:
    """A model that calls these tools in one turn, and then says their results."""

    def answer(request: ModelRequest) -> dict[str, Any]:
        if found := said(request):
            return {"text": "; ".join(found)}
        return {"tool_calls": [call(name, f"{name}-1", x=1) for name in names]}

    return answer


@pytest.mark.rows("F-38")
@pytest.mark.parametrize("make", STORES)
async def test_a_call_that_a_run_left_is_entered_again_with_its_id_and_arguments(
    tmp_path: Path, make: Callable[[Path], ConversationStore]
) -> None:
    step, store, model = Step(), make(tmp_path), Model(calls("step"))

    def opened() -> Session:
        session = Session(agent(step), session_id="one", store=store, client=model)
        session.keeps_open = True
        return session

    async with opened() as session:
        left = await leave(session, step.began)
    assert (left.status, left.reason) == ("interrupted", "requested")
    async with opened() as session:
        result = await session.resume()
    assert (result.status, result.text) == ("completed", "stepped")
    assert step.seen == [("step-1", {"x": 1}, False), ("step-1", {"x": 1}, True)]
    assert model.answers == 2


@pytest.mark.rows("F-38")
@pytest.mark.parametrize("keeps_open", [False, True])
async def test_what_cannot_be_resumed_gets_a_result_and_what_had_not_begun_is_made(
    keeps_open: bool,
) -> None:
    once, after = Step("once", resumable=False), Step("after")
    session = Session(
        agent(once, after),
        session_id="one",
        store=MemoryConversationStore(),
        client=Model(calls("once", "after")),
    )
    session.keeps_open = keeps_open
    async with session:
        left = await leave(session, once.began)
        assert left.status == ("interrupted" if keeps_open else "cancelled")
        resuming = asyncio.create_task(session.resume())
        if keeps_open:
            async with asyncio.timeout(PATIENCE):
                await after.began.wait()
            session.cancel()
            await resuming
            resuming = asyncio.create_task(session.resume())
        result = await resuming
    stopped, *rest = result.text.split("; ")
    assert stopped.startswith("Cancelled while it ran.")
    never_ran = "Not run: the run ended before this call began."
    assert rest == ["stepped" if keeps_open else never_ran]
    assert [resumed for _, _, resumed in after.seen] == ([False, True] if keeps_open else [])


@pytest.mark.rows("F-38")
async def test_a_prompt_instead_closes_a_call_that_was_left() -> None:
    step, model = Step(), Model(calls("step"))
    session = Session(agent(step), session_id="one", store=MemoryConversationStore(), client=model)
    session.keeps_open = True
    async with session:
        await leave(session, step.began)
        step.began.clear()
        await leave(session, step.began, "Another.")
    results = [each["content"] for each in session.state.messages if each["role"] == "tool"]
    assert [each[:12] for each in results] == ["Not resumed:"]
    assert [resumed for _, _, resumed in step.seen] == [False, False]


@pytest.mark.rows("F-38")
async def test_a_tool_that_can_no_longer_continue_says_so_and_does_not_run() -> None:
    step, store = Step(), MemoryConversationStore()
    session = Session(agent(step), session_id="one", store=store, client=Model(calls("step")))
    session.keeps_open = True
    async with session:
        await leave(session, step.began)
    step.is_resumable = False
    async with Session(
        agent(step), session_id="one", store=store, client=Model(calls("step"))
    ) as session:
        result = await session.resume()
    assert result.text.startswith("Unknown: an earlier run ended while this call ran")
    assert len(step.seen) == 1


@pytest.mark.rows("F-36", "F-38")
async def test_a_call_that_was_approved_once_is_entered_again_as_it_was_revised() -> None:
    step, store = Step(asks=True), MemoryConversationStore()
    session = Session(agent(step), session_id="one", store=store, client=Model(calls("step")))
    session.keeps_open = True
    asked: list[dict[str, Any]] = []

    def revise(_: str, arguments: dict[str, Any]) -> Decision:
        asked.append(arguments)
        return Decision(outcome="revise", partial={"x": 2})

    session.approval_callback = revise
    async with session:
        await leave(session, step.began)
        result = await session.resume()
    assert result.status == "completed"
    assert asked == [{"x": 1}]
    assert step.seen == [("step-1", {"x": 2}, False), ("step-1", {"x": 2}, True)]


async def test_a_function_says_itself_whether_it_continues() -> None:
    @tool(resumable=True)
    def again(ctx: RunContext[None]) -> str:
        """Say whether this is again."""
        return str(ctx.is_resumed)

    assert again.is_resumable
    assert agent(again).registry.is_resumable("again")
    assert not agent(Step(resumable=False)).registry.is_resumable("step")


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
