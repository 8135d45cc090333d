"""Agents that work for an agent, as telemetry tells of them: below the call, counted once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.trace import StatusCode

from paddock import Agent, AgentConfig, ObservabilityConfig, ScriptedModel, TelemetryStorage
from paddock.runtime.agents.agent_tool import AgentToolHandler
from paddock.runtime.telemetry import SqliteBackend, attach
from paddock.runtime.tools.delegate import DelegateHandler
from tests.unit.runtime.telemetry.collecting import Collected, attributes, look

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan

    from paddock.runtime.core.model import ModelEvent, ModelRequest
    from paddock.runtime.session.session import Session
    from paddock.runtime.tools.base import ToolHandler
    from tests.unit.runtime.conftest import Function, OpenSession

PARENT = {"input_tokens": 100, "output_tokens": 10}
CHILD = {"input_tokens": 7, "output_tokens": 3}
LOOK = {"id": "same", "name": "look", "arguments": {"at": "it"}}


def delegating(*instructions: str) -> dict[str, Any]:
    calls = [{"name": "delegate", "arguments": {"instruction": each}} for each in instructions]
    return {"tool_calls": calls, "usage": PARENT}


class Family:
    """A model for an agent that delegates `instructions`, and for those it delegates to, which
    look once and answer. All their calls have one id."""

    def __init__(self, *instructions: str) -> None:
        self._parent = ScriptedModel(
            [delegating(*instructions), {"text": "Done.", "usage": PARENT}]
        )

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        model = self._parent
        if "delegate" not in {tool["function"]["name"] for tool in request.tools}:
            answer = {"text": "Seen.", "usage": CHILD}
            model = ScriptedModel([{"tool_calls": [LOOK], "usage": CHILD}, answer])
        async for event in model.stream(request):
            yield event

    async def aclose(self) -> None:
        """There is nothing to close."""


def paths(collected: Collected) -> Counter[str]:
    """How many spans there are below which others."""
    spans = {each.context.span_id: each for each in collected.spans if each.context}

    def path(span: ReadableSpan) -> str:
        above = "" if span.parent is None else path(spans[span.parent.span_id]) + " > "
        return above + span.name

    return Counter(map(path, spans.values()))


def tokens(collected: Collected) -> dict[str, tuple[int, int]]:
    """How many model calls were counted, and what they used, by the kind of token."""
    found = {"input": (0, 0), "output": (0, 0)}
    for point in collected.points("gen_ai.client.token.usage"):
        count, total = found[point.attributes["gen_ai.token.type"]]
        found[point.attributes["gen_ai.token.type"]] = count + point.count, total + point.sum
    return found


def family(
    open_session: OpenSession, *instructions: str, tool: Function = look, **config: Any
) -> Session:
    settings = {"model": "m"} | config
    client = Family(*instructions)
    return open_session([], tool, DelegateHandler(), client=client, config=settings)


@pytest.mark.rows("S-50", "O-16")
async def test_the_runs_of_children_hang_below_the_calls_that_they_work_for(
    open_session: OpenSession, collected: Collected
) -> None:
    session = family(open_session, "Look here.", "Look there.")
    await collected.run(session)
    child = "invoke_agent > execute_tool delegate > invoke_agent"
    assert paths(collected) == {
        "invoke_agent": 1,
        "invoke_agent > chat m": 2,
        "invoke_agent > execute_tool delegate": 2,
        child: 2,
        f"{child} > chat m": 4,
        f"{child} > execute_tool look": 2,
    }
    first, second, own = collected.named("invoke_agent")
    assert attributes(own)["gen_ai.conversation.id"] == session.id
    calls = {attributes(each)["gen_ai.conversation.id"] for each in (first, second)}
    assert len(calls | {session.id}) == 3
    assert attributes(first)["paddock.team_id"] == "blue"
    assert attributes(first)["gen_ai.usage.input_tokens"] == 14
    assert attributes(own)["gen_ai.usage.input_tokens"] == 200 + 2 * 14


async def test_each_model_call_of_a_family_is_counted_once(
    open_session: OpenSession, collected: Collected
) -> None:
    await collected.run(family(open_session, "Look here.", "Look there."))
    assert tokens(collected) == {"input": (6, 200 + 4 * 7), "output": (6, 20 + 4 * 3)}


@pytest.mark.rows("S-51")
async def test_an_agent_as_a_tool_is_told_of_with_its_own_model_and_profile(
    open_session: OpenSession, collected: Collected, tmp_path: Path
) -> None:
    script = tmp_path / "critic.yaml"
    script.write_text("- {text: Good., usage: {input_tokens: 5}}\n")
    critic = AgentToolHandler(
        tool_name="critic",
        tool_description="Judges.",
        system_prompt="You are a critic.",
        config=AgentConfig(model=f"scripted:{script}", profile="readonly"),
    )
    call = {"name": "critic", "arguments": {"instruction": "Judge."}}
    session = open_session(
        [{"tool_calls": [call]}, {"text": "Done."}],
        critic,
        config={"model": "m", "profile": "developer"},
    )
    await collected.run(session)
    child, own = collected.named("invoke_agent")
    assert attributes(own)["paddock.profile"] == "developer"
    assert attributes(child)["paddock.profile"] == "readonly"
    assert attributes(child)["gen_ai.request.model"] == f"scripted:{script}"
    below = f"invoke_agent > execute_tool critic > invoke_agent > chat scripted:{script}"
    assert paths(collected)[below] == 1


async def test_results_of_a_childs_tools_are_on_their_spans_only_if_they_are_captured(
    open_session: OpenSession, collected: Collected
) -> None:
    await collected.run(family(open_session, "Look."))
    await collected.run(family(open_session, "Look."), tool_results=True, tool_arguments=False)
    without, told = map(attributes, collected.named("execute_tool look"))
    assert "gen_ai.tool.call.result" not in without
    assert told["gen_ai.tool.call.result"] == "seen it"
    assert "gen_ai.tool.call.arguments" not in told


async def test_a_cancelled_family_leaves_no_span_without_an_end(
    open_session: OpenSession, collected: Collected
) -> None:
    looking = asyncio.Event()

    async def look(at: str) -> str:
        looking.set()
        return str(await asyncio.Event().wait())

    session = family(open_session, "Look.", tool=look)
    running = asyncio.create_task(collected.run(session))
    async with asyncio.timeout(60):
        await looking.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    child, own = collected.named("invoke_agent")
    assert attributes(child)["paddock.run.status"] == "cancelled"
    assert attributes(own)["paddock.run.status"] == "cancelled"
    (tool,) = collected.named("execute_tool look")
    assert tool.status.status_code is StatusCode.ERROR
    assert len(collected.named("execute_tool delegate")) == 1


@pytest.mark.rows("S-50", "O-19")
async def test_rows_have_the_calls_of_children_and_their_tokens_once(
    open_session: OpenSession, tmp_path: Path
) -> None:
    path = tmp_path / "telemetry.db"
    config = ObservabilityConfig(
        team_id="blue", project_id="search", backend=SqliteBackend(path=path)
    )
    session = family(open_session, "Look here.", "Look there.")
    telemetry = attach(session, config)
    assert telemetry is not None
    await telemetry.start()
    result = await session.run("Go.")
    await telemetry.close(result.status)
    with TelemetryStorage(path, read_only=True) as storage:
        (row,) = storage.list_sessions()
        found = storage.get_session(session.id)
        tools = {each["tool_name"]: each for each in storage.get_tool_stats("blue", "search")}
    assert row["total_input_tokens"] == result.usage["input_tokens"] == 200 + 4 * 7
    assert row["total_output_tokens"] == result.usage["output_tokens"] == 20 + 4 * 3
    assert row["context_size"] == 100
    assert row["total_tool_calls"] == 4
    assert {name: (each["calls"], each["failures"]) for name, each in tools.items()} == {
        "delegate": (2, 0),
        "look": (2, 0),
    }
    assert found is not None
    (turn,) = found["turns"]
    assert turn["input_tokens"] == row["total_input_tokens"]


async def test_agents_of_agents_are_below_each_other_and_paid_for_once(
    open_session: OpenSession, collected: Collected, tmp_path: Path
) -> None:
    def agent(name: str, turns: list[dict[str, Any]], *tools: ToolHandler) -> AgentToolHandler:
        script = tmp_path / f"{name}.json"
        script.write_text(json.dumps(turns))
        made = Agent(AgentConfig(system_prompt=name, model=f"scripted:{script}"))
        for tool in tools:
            made.registry.register(tool)
        return AgentToolHandler(tool_name=name, tool_description="Works.", config=made)

    def asking(name: str) -> list[dict[str, Any]]:
        call = {"name": name, "arguments": {"instruction": "Do it."}}
        return [{"tool_calls": [call], "usage": CHILD}, {"text": "Done.", "usage": CHILD}]

    worker = agent("worker", [{"text": "Done.", "usage": CHILD}])
    manager = agent("manager", asking("worker"), worker)
    session = open_session(asking("manager"), manager, config={"model": "m"})
    config = ObservabilityConfig(
        team_id="blue", project_id="search", backend=SqliteBackend(path=tmp_path / "t.db")
    )
    rows = attach(session, config)
    assert rows is not None
    await rows.start()
    await collected.run(session)
    await rows.close()
    one, two, three = "invoke_agent", " > execute_tool manager", " > execute_tool worker"
    nested = f"{one}{two} > {one}{three} > {one}"
    assert sum(path.startswith(f"{nested} > chat") for path in paths(collected)) == 1
    assert tokens(collected) == {"input": (5, 5 * 7), "output": (5, 5 * 3)}
    with TelemetryStorage(tmp_path / "t.db", read_only=True) as storage:
        (row,) = storage.list_sessions()
    assert (row["total_input_tokens"], row["total_tool_calls"]) == (5 * 7, 2)
