"""MCP servers that an agent uses: their tools run, and what they do badly costs one result."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock import ConfigError, ScriptedModel, Session
from paddock.runtime.core.events import ToolProgress, ToolStarted
from paddock.runtime.tools.mcp import connection, transports
from paddock.runtime.tools.mcp.definitions import rename_arguments
from tests.unit.mcp.agents import Call, agent_of, results, script_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from paddock.runtime.core.model import ModelEvent, ModelRequest

PLAIN = [sys.executable, str(Path(__file__).with_name("plain_server.py"))]


class Watched(ScriptedModel):
    """Remembers which tools it was offered."""

    tools: Sequence[Mapping[str, Any]] = ()

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        self.tools = request.tools
        return super().stream(request)


def echo(text: str = "x") -> tuple[str, dict[str, Any]]:
    return ("plain__echo", {"text": text})


def plain(**fields: Any) -> dict[str, Any]:
    return {"name": "plain", "command": PLAIN, **fields}


async def test_an_agent_calls_the_tools_of_a_server_that_runs_in_its_sandbox() -> None:
    assert await results(agent_of(plain()), echo("hello"), ("plain__fail", {"text": "no"})) == [
        "hello",
        "no",
    ]


async def test_the_model_is_offered_the_tools_and_a_list_of_some_narrows_them() -> None:
    agent = agent_of(plain(tools=["echo", "odd.name"]))
    model = Watched([{"text": "done"}])
    async with Session(agent, client=model) as session:
        await session.run("Go.")
    names = [each["function"]["name"] for each in model.tools if "plain" in str(each)]
    assert names[0] == "plain__echo"
    assert names[1].startswith("plain__odd_name_")
    assert len(names) == 2
    assert not [name for name in session.registry if "plain" in name], "the agent has its own only"


async def test_an_argument_of_another_name_reaches_the_server_under_its_own() -> None:
    schema = {"type": "object", "properties": {"the text": {}}}
    ((name, _),) = rename_arguments(schema)[1].items()
    assert await results(agent_of(plain()), ("plain__echo", {name: "x"})) == ["x"]


async def test_a_tool_that_there_is_not_is_said_before_the_run() -> None:
    async with Session(agent_of(plain(tools=["eco"])), client=ScriptedModel([])) as session:
        with pytest.raises(ConfigError, match=r"plain\.tools: the server has no tool 'eco'; it ha"):
            await session.run("Go.")


async def test_a_server_that_died_is_started_again_and_its_call_is_not_repeated() -> None:
    died: Call = ("plain__exit", {})
    first, second, third, fourth = await results(agent_of(plain()), died, echo("a"), died, echo())
    for told in (first, third):
        assert "ended during the call, which may have had its effect" in told
        assert "exit code 3" in told
        assert "out of paper" in told
    assert (second, fourth) == ("a", "x")


async def test_a_server_that_dies_again_and_again_is_started_more_and_more_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "FIRST_BACKOFF", 1000.0)
    died: Call = ("plain__exit", {})
    *_, last = await results(agent_of(plain()), died, died, echo())
    assert "the MCP server 'plain' has died 2 times; it is started again in" in last


async def test_a_server_that_hangs_costs_one_result() -> None:
    first, second = await results(
        agent_of(plain(call_timeout=1)), ("plain__hang", {}), echo("alive")
    )
    assert "'hang' took longer than 1 s and was cancelled" in first
    assert second == "alive"


@pytest.mark.parametrize(
    ("tool", "told"), [("line", "a message of more"), ("notify", "without a request")]
)
async def test_a_server_that_floods_costs_one_result(
    tool: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transports, "MAX_MESSAGE", 1_000_000)
    monkeypatch.setattr(transports, "MAX_UNASKED", 500)
    first, second = await results(agent_of(plain()), (f"plain__{tool}", {}), echo("alive"))
    assert told in first
    assert second == "alive"


async def test_images_are_seen_and_what_cannot_be_shown_is_named() -> None:
    model = script_of([("plain__image", {})])
    async with Session(agent_of(plain()), client=model) as session:
        await session.run("Go.")
        (message,) = [each for each in session.state.messages if each["role"] == "tool"]
    assert "image/png" in str(message)
    assert "data:image/png;base64" in str(session.state.messages)
    assert "an image of the type image/png, which cannot be shown" in str(message)
    assert "[audio, audio/wav, not shown]" in str(message)


async def test_lines_that_are_no_messages_are_passed_over() -> None:
    assert await results(agent_of(plain()), ("plain__noise", {"text": "fine"})) == ["fine"]


async def test_a_long_result_is_cut() -> None:
    (text,) = await results(agent_of(plain()), echo("y" * 300_000))
    assert len(text) < 30_000


async def test_progress_of_a_server_is_progress_of_the_call() -> None:
    model = script_of([("plain__progress", {"text": "x"})])
    async with (
        Session(agent_of(plain()), client=model) as session,
        session.stream_events("Go.") as events,
    ):
        heard = [each.event async for each in events]
    assert [each.text for each in heard if isinstance(each, ToolProgress)] == ["half"]


async def test_what_a_server_gets_of_the_environment_is_redacted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PLAIN_TOKEN", "t0ken-of-mine")
    server = plain(env={"TOKEN": "${PLAIN_TOKEN}", "LEVEL": "debug"})
    assert await results(agent_of(server), echo("$TOKEN"), echo("$LEVEL")) == [
        "[secret PLAIN_TOKEN]",
        "debug",
    ]


async def test_a_server_in_the_sandbox_gets_nothing_of_this_machines_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_KEY", "k")
    assert await results(agent_of(plain()), echo("$MY_KEY")) == ["not set"]


async def test_a_server_on_the_host_gets_no_more_than_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_KEY", "k")
    server = plain(where="host")
    assert await results(agent_of(server), echo("$MY_KEY"), echo("$HOME")) == [
        "not set",
        os.environ["HOME"],
    ]


async def test_its_tools_are_gated_by_the_profile_or_always() -> None:
    asked = []

    def refuse(name: str, arguments: dict[str, Any]) -> bool:
        asked.append(name)
        return False

    for agent in (
        agent_of(plain(), profile="readonly"),
        agent_of(plain(approval="always"), profile="developer"),
    ):
        async with Session(agent, client=script_of([echo()])) as session:
            session.approval_callback = refuse
            await session.run("Go.")
    assert asked == ["plain__echo", "plain__echo"]


async def test_a_program_that_there_is_not_is_said_before_the_run() -> None:
    agent = agent_of({"name": "gone", "command": ["no-such-program-anywhere"]})
    async with Session(agent, client=ScriptedModel([])) as session:
        with pytest.raises(ConfigError, match="the MCP server 'gone' cannot be reached") as raised:
            await session.run("Go.")
    assert "no-such-program-anywhere" in str(raised.value)


async def test_a_server_that_says_nothing_at_its_start_is_ended() -> None:
    agent = agent_of({"name": "mute", "command": ["sleep", "1000"], "start_timeout": 0.5})
    async with Session(agent, client=ScriptedModel([])) as session:
        with pytest.raises(ConfigError, match=r"'mute' cannot be reached: no answer within 0\.5 s"):
            await session.run("Go.")


async def test_a_run_that_is_cancelled_during_a_call_leaves_nothing() -> None:
    model = script_of([("plain__hang", {})])
    async with (
        Session(agent_of(plain()), client=model) as session,
        session.stream_events("Go.") as events,
    ):
        async for envelope in events:
            if isinstance(envelope.event, ToolStarted):
                session.cancel()
    assert events.result.status == "cancelled"
