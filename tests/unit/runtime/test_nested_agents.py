"""Agents that work for agents that work for agents."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from paddock import (
    Agent,
    AgentConfig,
    AgentToolHandler,
    ApprovalRequested,
    Budget,
    ConfigError,
    Decision,
    EventSink,
    MemoryApprovalStore,
    RunFinished,
    ScriptedModel,
    Session,
    TextAdded,
    ToolHandler,
    ToolInvocation,
    ToolOutput,
)
from paddock.runtime.permissions.profile import load_profile
from paddock.runtime.tools.delegate import DelegateHandler
from paddock.runtime.tools.registry import ToolRegistry
from tests.unit.runtime.conftest import FunctionTool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from paddock import Envelope
    from tests.unit.runtime.conftest import CountingBackend, OpenSession

PATIENCE = 60
USAGE = "{input_tokens: 10, output_tokens: 1}"


@pytest.fixture
def make(tmp_path: Path, backend: CountingBackend) -> Callable[..., Agent]:
    """``make(name, turns, *tools)`` is an agent whose model says `turns`, as YAML."""

    def make(name: str, turns: str, *tools: ToolHandler, **config: Any) -> Agent:
        script = tmp_path / f"{name}.yaml"
        script.write_text(turns)
        settings: dict[str, Any] = {
            "system_prompt": name,
            "model": f"scripted:{script}",
            "backend": backend,
        }
        agent = Agent(AgentConfig(**settings | config))
        for tool in tools:
            agent.registry.register(tool)
        return agent

    return make


def asks(name: str, text: str = "Done.") -> str:
    call = f"[{{name: {name}, arguments: {{instruction: Do it.}}}}]"
    return f"- {{text: I ask., tool_calls: {call}, usage: {USAGE}}}\n" + says(text)


def as_tool(agent: Agent, **settings: Any) -> AgentToolHandler:
    name = agent.system_prompt
    return AgentToolHandler(
        tool_name=name, tool_description=f"Asks the {name}.", config=agent, **settings
    )


def says(text: str) -> str:
    return f"- {{text: {text}, usage: {USAGE}}}\n"


class Stuck(ToolHandler):
    name = "hang"
    description = "Never answers."
    parameters: ClassVar[dict[str, Any]] = {"type": "object"}

    def __init__(self) -> None:
        self.began, self.ended = asyncio.Event(), asyncio.Event()

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()
        return ToolOutput("never")


async def test_three_levels_are_one_stream_one_bill_and_one_conversation_each(
    make: Callable[..., Agent], tmp_path: Path
) -> None:
    worker = make("worker", says("I worked."))
    manager = make("manager", asks("worker", "It is made."), as_tool(worker))
    boss = make("boss", asks("manager", "Thank you."), as_tool(manager))
    async with (
        Session(boss, session_dir=tmp_path / "boss") as session,
        session.stream_events("Make it.") as stream,
    ):
        seen = [envelope async for envelope in stream]
    texts: list[tuple[tuple[str, ...], str]] = []
    for envelope in seen:
        path = envelope.origin.agent_path
        if isinstance(envelope.event, TextAdded):
            before = texts.pop()[1] if texts and texts[-1][0] == path else ""
            texts.append((path, before + envelope.event.text))
    assert texts == [
        ((), "I ask."),
        (("manager",), "I ask."),
        (("manager", "worker"), "I worked."),
        (("manager",), "It is made."),
        ((), "Thank you."),
    ]
    assert [e.seq for e in seen] == sorted({e.seq for e in seen})
    assert len({e.session_id for e in seen}) == 3
    ends = [e.origin.agent_path for e in seen if isinstance(e.event, RunFinished)]
    assert ends == [("manager", "worker"), ("manager",), ()]
    assert stream.result.usage["input_tokens"] == 50
    assert session.state.usage["input_tokens"] == 50


async def test_a_budget_bounds_all_levels_together(make: Callable[..., Agent]) -> None:
    worker = make("worker", says("I worked."))
    manager = make("manager", asks("worker"), as_tool(worker))
    boss = make("boss", asks("manager"), as_tool(manager))
    async with Session(boss, budget=Budget(tokens=25)) as session:
        result = await session.run("Make it.")
    assert result.status == "budget"
    assert session.state.usage["input_tokens"] == 30


async def test_an_agent_that_hangs_below_ends_with_the_one_at_the_top(
    make: Callable[..., Agent], backend: CountingBackend
) -> None:
    stuck = Stuck()
    worker = make("worker", "- tool_calls: [{name: hang, arguments: {}}]\n", stuck)
    manager = make("manager", asks("worker"), as_tool(worker))
    async with Session(make("boss", asks("manager"), as_tool(manager))) as session:
        run = asyncio.create_task(session.run("Make it."))
        async with asyncio.timeout(PATIENCE):
            await stuck.began.wait()
            session.cancel()
            assert (await run).status == "cancelled"
        assert stuck.ended.is_set()
    assert backend.live == []


async def test_the_callback_at_the_top_is_asked_for_calls_at_the_bottom(
    make: Callable[..., Agent], asking: Callable[[Any], ToolHandler]
) -> None:
    def deploy() -> str:
        return "It is out."

    calls = "- tool_calls: [{name: deploy, arguments: {}}]\n- text: Deployed.\n"
    worker = make("worker", calls, asking(deploy))
    manager = make("manager", asks("worker"), as_tool(worker))
    boss = make("boss", asks("manager"), as_tool(manager))
    asked: list[str] = []

    def approve(name: str, _arguments: dict[str, Any]) -> bool:
        asked.append(name)
        return True

    async with Session(boss) as session:
        session.approval_callback = approve
        assert (await session.run("Make it.")).status == "completed"
    assert asked == ["deploy"]


@pytest.mark.parametrize("depth", [1, 3])
async def test_agents_are_nested_as_deep_as_is_allowed_and_the_model_is_told(
    open_session: OpenSession, depth: int
) -> None:
    deepest: list[int] = []

    def answer(request: Any) -> dict[str, Any]:
        last = request.messages[-1]
        if last["role"] == "tool":
            return {"text": str(last["content"])}
        call = {"name": "delegate", "arguments": {"instruction": "Deeper."}}
        deepest.append(1)
        return {"tool_calls": [call]}

    client = ScriptedModel([answer] * 9)
    session = open_session([], DelegateHandler(nested=True), client=client)
    session.max_agent_depth = depth
    async with session:
        result = await session.run("Go.")
    assert result.status == "completed"
    assert len(deepest) == depth + 1
    assert f"at most {depth} levels deep (max_agent_depth)" in result.text


async def test_what_is_no_agent_is_refused(open_session: OpenSession) -> None:
    async def hire(context: Any) -> str:
        with pytest.raises(ConfigError, match="an agent is an Agent or an AgentConfig, not <obj"):
            await context.run_agent("x", agent=object())
        return "refused"

    session = open_session([{"tool_calls": [{"name": "hire"}]}, {"text": "x"}], hire)
    async with session:
        await session.run("Go.")
    assert session.state.messages[-2]["content"] == "refused"


async def test_an_agent_with_tools_of_its_own_is_a_tool_with_another_prompt(
    make: Callable[..., Agent],
) -> None:
    def secret() -> str:
        return "42"

    calls = "- tool_calls: [{name: secret, arguments: {}}]\n- {expect: '42', text: It is 42.}\n"
    worker = make("worker", calls, FunctionTool(secret))
    tool = as_tool(worker, system_prompt="Another.")
    async with Session(make("boss", asks("worker"), tool)) as session:
        await session.run("Go.")
    assert session.state.messages[-2]["content"] == "It is 42."
    assert worker.system_prompt == "worker"


@pytest.mark.parametrize(
    ("profile", "own", "together"),
    [("developer", False, False), ("developer", True, True), ("readonly", False, True)],
)
def test_agents_run_at_once_unless_they_share_a_sandbox_and_may_write(
    profile: str, own: bool, together: bool
) -> None:
    registry = ToolRegistry(profile=load_profile(profile))
    registry.register(DelegateHandler(sandbox="own" if own else "shared"))
    config = AgentConfig() if own else None
    registry.register(AgentToolHandler(tool_name="a", tool_description="b", config=config))
    assert registry.is_concurrent("delegate") is together
    assert registry.is_concurrent("a") is together
    registry.register(DelegateHandler(), concurrent=not together)
    assert registry.is_concurrent("delegate") is not together


class Asked(EventSink):
    """Says when an approval was asked for."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    async def show(self, envelope: Envelope) -> None:
        if isinstance(envelope.event, ApprovalRequested):
            self.event.set()


async def test_a_call_at_the_bottom_waits_in_the_store_at_the_top(
    make: Callable[..., Agent], asking: Callable[[Any], ToolHandler]
) -> None:
    def deploy() -> str:
        return "It is out."

    calls = (
        "- tool_calls: [{name: deploy, arguments: {}}]\n- {expect: It is out, text: Deployed.}\n"
    )
    worker = make("worker", calls, asking(deploy), auto_approve=False)
    manager = make("manager", asks("worker"), as_tool(worker), auto_approve=False)
    boss = make("boss", asks("manager"), as_tool(manager), auto_approve=False)
    async with Session(boss) as session:
        session.approval_store, session.approval_wait = MemoryApprovalStore(), True
        asked = Asked()
        session.sinks = [asked]
        run = asyncio.create_task(session.run("Make it."))
        async with asyncio.timeout(PATIENCE):
            await asked.event.wait()
            (approval,) = await session.approval_store.list(status="pending")
            assert approval.request.session_id == session.id
            assert approval.request.agent_path == ("manager", "worker")
            await session.approval_store.resolve(approval.request.id, Decision(outcome="approve"))
            result = await run
    assert result.status == "completed"
    assert session.state.messages[-2]["content"] == "Done."
