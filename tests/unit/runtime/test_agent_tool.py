"""Agents as tools of other agents."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    Agent,
    AgentConfig,
    AgentToolHandler,
    ConfigError,
    PermissionProfile,
    SandboxLost,
    ScriptedModel,
    Session,
    ToolInvocation,
)
from paddock.runtime.core.context import RunContext
from paddock.runtime.core.subagent import AgentReport, AgentTask
from tests.unit.runtime.conftest import CountingBackend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from paddock import ModelRequest, RunResult
    from paddock.runtime.core.model import ModelEvent

PROMPT = "You are a critic."


class Colleague:
    """A session's context that notes what it is asked to do."""

    def __init__(self) -> None:
        self.tasks: list[AgentTask] = []

    async def run_agent(self, task: AgentTask) -> AgentReport:
        self.tasks.append(task)
        usage = {"input_tokens": 1}
        return AgentReport(
            session_id="c", status="completed", text="Good.", usage=usage, duration=0.5
        )


class Two:
    """A model that answers the critic by one script and others by another."""

    def __init__(self, parent: Sequence[Any], critic: Sequence[Any]) -> None:
        self._scripts = {False: ScriptedModel(parent), True: ScriptedModel(critic)}
        self.requests: list[ModelRequest] = []

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        critic = request.messages[0]["content"] == PROMPT
        if critic:
            self.requests.append(request)
        async for event in self._scripts[critic].stream(request):
            yield event

    async def aclose(self) -> None:
        """There is nothing to close."""


def critic(**settings: Any) -> AgentToolHandler:
    return AgentToolHandler(
        tool_name="critic", tool_description="Judges.", system_prompt=PROMPT, **settings
    )


def lent(colleague: Colleague) -> RunContext[None]:
    return RunContext(deps=None, agents=colleague)


def calling(**arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"name": "critic", "arguments": arguments}]}


def told(result: RunResult) -> tuple[str, dict[str, Any]]:
    (end,) = [event for event in result.events if event.type == "tool_end"]
    return end.tool_result or "", end.tool_metadata or {}


@pytest.mark.rows("S-51")
@pytest.mark.parametrize(
    ("settings", "arguments", "prompt"),
    [
        ({}, {"instruction": "Judge *this*:\n  it."}, "Judge *this*:\n  it."),
        (
            {"input_schema": {"type": "object", "properties": {"text": {}, "marks": {}}}},
            {"text": "Long ago", "marks": [1, 2]},
            "text: Long ago\nmarks: [1, 2]",
        ),
        (
            {"input_formatter": lambda arguments: f"<{arguments['instruction']}>"},
            {"instruction": "x"},
            "<x>",
        ),
    ],
)
async def test_the_arguments_become_the_prompt(
    settings: dict[str, Any], arguments: dict[str, Any], prompt: str
) -> None:
    colleague = Colleague()
    tool = critic(**settings)
    output = await tool.handle(ToolInvocation("1", "critic", arguments, lent(colleague)))
    (task,) = colleague.tasks
    assert (task.instruction, task.system_prompt, task.agent) == (prompt, PROMPT, None)
    assert (output.content, output.success) == ("Good.", True)
    assert output.metadata == {
        "child_usage": {"input_tokens": 1},
        "child_status": "completed",
        "child_session_id": "c",
        "duration_seconds": 0.5,
    }


@pytest.mark.rows("S-51")
async def test_a_tool_says_what_it_is_and_needs_an_input() -> None:
    tool = critic(requires_approval=True)
    assert (tool.name, tool.description, tool.requires_approval) == ("critic", "Judges.", True)
    assert not critic().requires_approval
    assert tool.parameters["required"] == ["instruction"]
    colleague = Colleague()
    blank = ToolInvocation("1", "critic", {"instruction": " "}, lent(colleague))
    assert not (await tool.handle(blank)).success
    assert colleague.tasks == []


@pytest.mark.rows("S-51")
@pytest.mark.parametrize("name", ["", "a b", "krit.iker", "critic\n", "c" * 65])
def test_a_name_that_no_provider_takes_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"tool_name .* at most 64 letters"):
        AgentToolHandler(tool_name=name, tool_description="Judges.", system_prompt=PROMPT)


@pytest.mark.rows("S-51")
def test_a_schema_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^input_schema: the schema at \$\.type: 'zork' is not"):
        critic(input_schema={"type": "zork"})


@pytest.mark.rows("S-51")
async def test_each_call_is_a_session_of_its_own_that_has_what_its_caller_has(
    tmp_path: Path,
) -> None:
    pwd = {"tool_calls": [{"name": "bash", "arguments": {"command": "cat made"}}]}
    make = {"tool_calls": [{"name": "bash", "arguments": {"command": "echo ours > made"}}]}
    client = Two(
        [make, calling(instruction="One."), calling(instruction="Two."), {"text": "Done."}],
        [pwd, {"expect": "ours", "text": "I see."}],
    )
    agent = Agent(
        AgentConfig(system_prompt="x", profile="developer", working_dir=str(tmp_path), model="m")
    )
    agent.registry.register(critic())
    async with Session(agent, client=client) as session:
        result = await session.run("Go.")
    ends = [event for event in result.events if event.type == "tool_end"][1:]
    assert [end.tool_result for end in ends] == ["I see.", "I see."]
    assert len({(end.tool_metadata or {})["child_session_id"] for end in ends}) == 2
    assert {request.model for request in client.requests} == {"m"}
    assert [len(request.messages) for request in client.requests] == [2, 4, 2, 4]
    names = {tool["function"]["name"] for tool in client.requests[0].tools}
    assert names == set(agent.registry) - {"critic"}


@pytest.mark.rows("S-51")
async def test_an_agent_of_its_own_configuration_has_its_own_model_tools_and_sandbox(
    backend: CountingBackend, tmp_path: Path
) -> None:
    script = tmp_path / "critic.yaml"
    script.write_text("- tool_calls: [{name: list, arguments: {}}]\n- text: I am another.\n")
    theirs = AgentConfig(
        system_prompt="Not this one.", model=f"scripted:{script}", profile="readonly"
    )
    client = Two([calling(instruction="One."), {"text": "Done."}], [])
    agent = Agent(AgentConfig(system_prompt="x", profile="developer", backend=backend))
    agent.registry.register(critic(config=theirs))
    async with Session(agent, client=client) as session:
        result = await session.run("Go.")
    assert told(result)[0] == "I am another."
    assert client.requests == []
    assert backend.made == []


@pytest.mark.rows("S-51")
async def test_an_agent_that_is_told_to_stop_leaves_its_caller_running() -> None:
    stop = asyncio.Event()
    stop.set()
    client = Two([calling(instruction="One."), {"text": "Then I go on."}], [{"text": "x"}])
    agent = Agent(AgentConfig(system_prompt="x"))
    agent.registry.register(critic(cancel_check=stop.is_set))
    async with Session(agent, client=client) as session:
        result = await session.run("Go.")
    content, metadata = told(result)
    assert (result.text, result.status) == ("Then I go on.", "completed")
    assert (metadata["child_status"], metadata["success"]) == ("cancelled", False)
    assert "did not finish (cancelled: cancel_check)" in content


@pytest.mark.rows("S-51")
async def test_an_agents_own_callback_is_asked_instead_of_its_callers() -> None:
    asked: list[str] = []

    def theirs(name: str, arguments: dict[str, Any]) -> bool:
        asked.append(f"critic's {name}")
        return True

    def ours(name: str, arguments: dict[str, Any]) -> bool:
        asked.append(name)
        return True

    profile = PermissionProfile.from_dict({"profile": "all", "approval": {"mode": "all"}})
    listing = {"tool_calls": [{"name": "list", "arguments": {}}]}
    client = Two([calling(instruction="One."), {"text": "Done."}], [listing, {"text": "Seen."}])
    agent = Agent(AgentConfig(system_prompt="x", profile=profile))
    agent.registry.register(critic(approval_callback=theirs))
    async with Session(agent, client=client) as session:
        session.approval_callback = ours
        await session.run("Go.")
    assert asked == ["critic", "critic's list"]


@pytest.mark.rows("S-51")
async def test_what_its_caller_may_not_do_unasked_an_agent_may_not_either(tmp_path: Path) -> None:
    script = tmp_path / "critic.yaml"
    script.write_text("- tool_calls: [{name: list, arguments: {}}]\n- text: Seen.\n")
    profile = PermissionProfile.from_dict({"profile": "all", "approval": {"mode": "all"}})
    theirs = AgentConfig(model=f"scripted:{script}", profile=profile, auto_approve=True)
    quiet = AgentConfig(
        system_prompt="x",
        auto_approve=False,
        profile=PermissionProfile.from_dict({"profile": "none", "approval": {"mode": "none"}}),
    )
    for callback, status in ((None, "interrupted"), (lambda name, arguments: True, "completed")):
        client = Two([calling(instruction="One."), {"text": "Done."}], [])
        agent = Agent(quiet)
        agent.registry.register(critic(config=theirs, approval_callback=callback))
        async with Session(agent, client=client) as session:
            result = await session.run("Go.")
        assert told(result)[1]["child_status"] == status


async def test_an_agent_whose_own_sandbox_is_lost_does_not_end_its_caller() -> None:
    lost = CountingBackend(error=SandboxLost("it is gone"))
    tool = critic(config=AgentConfig(backend=lost, profile="unrestricted"))
    bash = {"tool_calls": [{"name": "bash", "arguments": {"command": "true"}}]}
    client = Two([calling(instruction="Judge."), {"text": "I go on."}], [bash])
    agent = Agent(AgentConfig(system_prompt="Help.", backend=CountingBackend()))
    agent.registry.register(tool)
    async with Session(agent, client=client) as session:
        result = await session.run("Go.")
    assert (result.status, result.text) == ("completed", "I go on.")
    content, metadata = told(result)
    assert metadata["child_status"] == "error"
    assert "it is gone" in content
