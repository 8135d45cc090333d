"""An agent and a session as their users hold them: what they have, and from when on."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING

import pytest

from paddock.runtime.agents.agent import Agent
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.conversation.state import State
from paddock.runtime.core.model import ModelRequest, ModelResponse
from paddock.runtime.models.scripted import ScriptedModel
from paddock.runtime.session.session import Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from paddock.runtime.core.model import ModelEvent

PATIENCE = 60
"""Seconds that something which has to happen may take on a busy machine."""


class Meeting:
    """A model that answers nobody before so many conversations have asked it."""

    def __init__(self, count: int) -> None:
        self._all_here = asyncio.Barrier(count)

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        await self._all_here.wait()
        asked = [message["content"] for message in request.messages]
        yield ModelResponse(text=", ".join(asked))

    async def aclose(self) -> None:
        """Nothing is open."""


class Counting:
    """A model that counts how often it is asked and closed."""

    def __init__(self) -> None:
        self.asked = self.closed = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.asked += 1
        yield ModelResponse(text=", ".join(message["content"] for message in request.messages))

    async def aclose(self) -> None:
        self.closed += 1


@pytest.mark.rows("S-8")
def test_without_a_configuration_an_agent_has_the_default_one() -> None:
    agent = Agent()
    assert agent.config == AgentConfig()
    assert list(agent.registry) == ["bash", "glob", "grep", "list", "read", "read_excel"]


@pytest.mark.rows("S-8")
def test_an_agents_prompt_is_read_when_it_is_first_asked_for_and_then_kept(tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.md"
    agent = Agent(AgentConfig(system_prompt=str(prompt), vars={"what": "fences"}))
    prompt.write_text("Mend {{ what }}.")
    assert agent.system_prompt == "Mend fences."
    prompt.write_text("Mend nothing.")
    assert agent.system_prompt == "Mend fences."


@pytest.mark.rows("S-8")
async def test_each_client_of_an_agent_is_a_new_one_of_its_model(tmp_path: Path) -> None:
    script = tmp_path / "script.yaml"
    script.write_text("- text: Hello.\n")
    agent = Agent(AgentConfig(model=f"scripted:{script}"))
    first, second = agent.create_client(), agent.create_client()
    assert first is not second
    assert isinstance(first, ScriptedModel)
    request = ModelRequest(model="any", messages=[{"role": "user", "content": "Hello?"}])
    *_, answer = [event async for event in first.stream(request)]
    assert answer == ModelResponse(text="Hello.", is_priced=True)


@pytest.mark.rows("S-8")
async def test_one_agent_serves_many_sessions_at_once_and_keeps_nothing_of_them() -> None:
    agent = Agent(AgentConfig(system_prompt="Help."))
    client = Meeting(3)
    sessions = [Session(agent, client=client) for _ in range(3)]
    runs = [session.run(prompt=str(number)) for number, session in enumerate(sessions)]
    results = await asyncio.wait_for(asyncio.gather(*runs), PATIENCE)
    assert [result.text for result in results] == ["Help., 0", "Help., 1", "Help., 2"]
    assert len({session.id for session in sessions}) == 3
    later = await Session(agent, client=Meeting(1)).run(prompt="3")
    assert later.text == "Help., 3"


@pytest.mark.rows("S-19")
def test_a_session_is_made_without_a_loop_and_has_what_is_documented(tmp_path: Path) -> None:
    agent, state = Agent(AgentConfig(system_prompt="Help.")), State()
    session = Session(
        agent,
        session_id="mine",
        state=state,
        session_dir=tmp_path / "mine",
        client=ScriptedModel([]),
    )
    assert session.id == "mine"
    assert session.agent.config is agent.config
    assert session.state is state
    assert session.registry is session.agent.registry
    assert list(session.registry) == list(agent.registry)
    assert session.approval_callback is None
    assert session.cancel_check is None
    assert session.auto_compact is True
    assert session.context_window is None
    assert session.budget_gate is None
    assert not (tmp_path / "mine").exists(), "making a session makes no file"


@pytest.mark.rows("S-19")
def test_a_session_takes_its_agent_and_all_else_by_name_or_not_at_all() -> None:
    signature = inspect.signature(Session)
    first_kind, *kinds = [parameter.kind for parameter in signature.parameters.values()]
    assert first_kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert set(kinds) == {inspect.Parameter.KEYWORD_ONLY}
    agent = Agent(AgentConfig(system_prompt="Help."))
    first, second = Session(agent), Session(agent)
    assert len(first.id) == len(second.id) == 8
    assert first.id != second.id
    assert first.state is not second.state


async def test_an_agent_may_have_a_model_object_which_its_sessions_share_and_leave_open() -> None:
    model = Counting()
    agent = Agent(AgentConfig(system_prompt="x"), model=model)
    for prompt in ("One.", "Two."):
        async with Session(agent) as session:
            assert (await session.run(prompt)).text == f"x, {prompt}"
    assert (model.asked, model.closed) == (2, 0)
    async with Session(agent, client=ScriptedModel([{"text": "Mine."}])) as session:
        assert (await session.run("Who?")).text == "Mine."
    assert model.asked == 2


async def test_a_session_that_continues_as_another_agent_asks_that_ones_model() -> None:
    first, second = Counting(), Counting()
    async with Session(Agent(model=first)) as session:
        await session.run("One.")
        session.use(Agent(model=second))
        await session.run("Two.")
    assert (first.asked, second.asked) == (1, 1)
