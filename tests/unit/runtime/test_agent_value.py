"""An agent is a value: what changes in one session changes neither it nor another session."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    Agent,
    AgentConfig,
    ConfigError,
    RuntimeOptions,
    ScriptedModel,
    Session,
    create_runtime,
    reconfigure_runtime,
    run_prompt,
)
from tests.unit.runtime.conftest import FunctionTool

if TYPE_CHECKING:
    from pathlib import Path

    from paddock import ModelRequest
    from tests.unit.runtime.conftest import CountingBackend, OpenSession


def ping() -> str:
    return "pong"


@pytest.fixture
def agent() -> Agent:
    return Agent(AgentConfig(system_prompt="Help.", profile="developer"))


def test_what_is_no_agent_is_refused_by_a_session(agent: Agent) -> None:
    config: Any = agent.config
    with pytest.raises(ConfigError, match=r"give an Agent, .* not AgentConfig"):
        Session(config)
    session = Session(agent)
    with pytest.raises(ConfigError, match="not AgentConfig"):
        session.use(config)
    assert session.agent.config is agent.config


@pytest.mark.rows("O-13")
def test_reconfiguring_a_runtime_changes_its_session_only(agent: Agent) -> None:
    agent.registry.register(FunctionTool(ping))
    changed, other = Session(agent), Session(agent)
    runtime = create_runtime("", session=changed)
    reconfigure_runtime(runtime, profile="readonly", enable_delegate=False)
    assert runtime.agent is changed.agent
    assert runtime.registry is runtime.agent.registry is changed.registry
    assert "write" not in runtime.registry
    assert "ping" in runtime.registry
    for untouched in (agent.registry, other.registry, Session(agent).registry):
        assert untouched.profile is not None
        assert untouched.profile.name == "developer"
        assert {"write", "delegate", "ping"} <= set(untouched)
    assert agent.config.profile == other.agent.config.profile == "developer"


def test_a_runtime_without_delegation_takes_the_tool_from_its_session_only(agent: Agent) -> None:
    changed, other = Session(agent), Session(agent)
    create_runtime("", session=changed, options=RuntimeOptions(enable_delegate=False))
    assert "delegate" not in changed.registry
    assert "delegate" in other.registry
    assert "delegate" in agent.registry


def test_tools_of_a_session_are_its_own(agent: Agent) -> None:
    first, second = Session(agent), Session(agent)
    first.registry.register(FunctionTool(ping))
    second.registry.clear()
    assert "ping" in first.registry
    assert "ping" not in agent.registry
    assert len(second.registry) == 0


def test_the_parts_of_an_agent_cannot_be_exchanged(agent: Agent) -> None:
    for name in ("config", "registry", "system_prompt"):
        with pytest.raises(AttributeError):
            setattr(agent, name, None)


def test_a_prompt_file_is_read_once_for_all_sessions(tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.md"
    prompt.write_text("First.")
    agent = Agent(AgentConfig(system_prompt=str(prompt)))
    first = Session(agent)
    assert first.agent.system_prompt == "First."
    prompt.write_text("Second.")
    assert Session(agent).agent.system_prompt == "First."


def test_another_profile_brings_no_tool_back_that_was_exchanged_or_taken_out(agent: Agent) -> None:
    def write() -> str:
        return "harmless"

    own = FunctionTool(write)
    agent.registry.register(own)
    agent.registry.unregister("bash")
    session = Session(agent)
    runtime = create_runtime("", session=session)
    for profile in ("unrestricted", "readonly"):
        reconfigure_runtime(runtime, profile=profile)
        assert session.registry.get("write") is own
        assert "bash" not in session.registry
        assert "read" in session.registry
    assert "edit" not in session.registry


async def test_a_session_continues_its_conversation_as_another_agent(
    backend: CountingBackend, tmp_path: Path
) -> None:
    scripts = [tmp_path / "one.yaml", tmp_path / "two.yaml"]
    for script in scripts:
        script.write_text(f"- text: {script.stem}\n- text: {script.stem}\n")
    one, two = (
        Agent(AgentConfig(system_prompt=s.stem, model=f"scripted:{s}", backend=backend))
        for s in scripts
    )
    async with Session(one) as session:
        assert (await session.run("Hello?")).text == "one"
        await session.get_sandbox()
        session.use(two)
        assert (await session.run("And now?")).text == "two"
        await session.get_sandbox()
        assert len(backend.made) == 1, "the recipe is the same"
        session.use(two.copy(config=replace(two.config, working_dir="/srv")))
        await session.get_sandbox()
        assert len(backend.made) == 2
        assert session.state.get_user_messages() == ["Hello?", "And now?"]
    assert backend.live == []


async def test_a_run_keeps_its_model_and_sandbox_when_its_session_changes_agents(
    open_session: OpenSession, tmp_path: Path
) -> None:
    script = tmp_path / "other.yaml"
    script.write_text("- text: The other one.\n" * 3)

    async def change(context: Any) -> str:
        before = await context.sandbox()
        other = replace(session.agent.config, model=f"scripted:{script}", working_dir="/srv")
        session.use(session.agent.replace(other))
        return str(before is await context.sandbox())

    own = tmp_path / "own.yaml"
    own.write_text("- tool_calls: [{name: change, arguments: {}}]\n- text: Still me.\n")
    session = open_session([], change, config={"model": f"scripted:{own}"})
    session._resources.given_client = None
    async with session:
        result = await session.run("Change.")
        assert result.text == "Still me."
        assert session.state.messages[-2]["content"] == "True"
        again = await session.run("Again.")
        assert (again.text, again.reason) == ("The other one.", None)


async def test_the_model_is_offered_the_tools_of_the_new_agent(agent: Agent) -> None:
    offered: list[set[str]] = []

    def answer(request: ModelRequest) -> dict[str, str]:
        offered.append({tool["function"]["name"] for tool in request.tools})
        return {"text": "Yes."}

    session = Session(agent, client=ScriptedModel([answer, answer]))
    runtime = create_runtime("", session=session)
    await run_prompt(runtime, "May you write?")
    session.use(Agent(AgentConfig(profile="readonly")))
    await run_prompt(runtime, "And now?")
    assert "write" in offered[0]
    assert "write" not in offered[1]


def test_an_agent_whose_sandboxes_could_write_the_session_is_refused(
    agent: Agent, tmp_path: Path
) -> None:
    session = Session(agent, session_dir=tmp_path / "sessions" / "one")
    runtime = create_runtime("", session=session)
    with pytest.raises(ConfigError, match="the session directory"):
        reconfigure_runtime(runtime, working_dir=str(tmp_path))
    assert session.agent.config is agent.config
    assert runtime.options.working_dir is None
