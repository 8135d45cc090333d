"""A runtime that is served offers the tools of its MCP servers, too."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mcp import Client, types

from paddock import ConfigError, mcp
from paddock.runtime.mcp.server import make_server
from tests.unit.mcp.test_served import served
from tests.unit.mcp.toolboxes import ERAS, text_of
from tests.unit.runtime.orchestration.teams import echo_tool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.runtime.orchestration.runtime import Runtime


def server(name: str) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).with_name(f"{name}_server.py"))]
    return {"name": name, "command": command, "where": "host"}


PLAIN, ASKING = server("plain"), server("asking")

pytestmark = [pytest.mark.rows("F-34", "F-41"), pytest.mark.parametrize("era", ERAS)]


class Person:
    """Accepts what it is asked, and remembers it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        self.asked.append(params.message)
        return types.ElicitResult(action="accept")


@contextlib.asynccontextmanager
async def client_of(runtime: Runtime, era: str, **options: Any) -> AsyncIterator[Client]:
    async with (
        runtime,
        runtime._toolbox("mcp", None, expose_agent_tools=False) as toolbox,
        Client(make_server(toolbox), mode=era, **options) as client,
    ):
        yield client


async def test_their_tools_are_listed_and_called_beside_the_agents_own(era: str) -> None:
    runtime = mcp.create_mcp_runtime(tools=[echo_tool()], mcp_servers=[PLAIN])
    async with client_of(runtime, era) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert {"echo", "plain__echo", "plain__file"} <= set(names)
        assert names == sorted(names)
        own = await client.call_tool("echo", {"value": "a"})
        assert text_of(own) == '{"echo": "a"}'
        theirs = [await client.call_tool("plain__count", {}) for _ in range(2)]
    assert [text_of(each) for each in theirs] == ["1", "2"], "one process serves all calls"


async def test_a_server_that_always_asks_has_the_clients_user_asked(era: str) -> None:
    runtime = mcp.create_mcp_runtime(mcp_servers=[{**PLAIN, "approval": "always"}])
    person = Person()
    async with client_of(runtime, era, elicitation_callback=person) as client:
        result = await client.call_tool("plain__echo", {"text": "x"})
    assert text_of(result) == "x"
    assert person.asked == ["mcp asks to run the tool 'plain__echo' with\ntext: x"]


async def test_what_a_server_asks_is_put_to_the_clients_user(era: str) -> None:
    runtime = mcp.create_mcp_runtime(mcp_servers=[ASKING])
    person = Person()
    async with client_of(runtime, era, elicitation_callback=person) as client:
        result = await client.call_tool("asking__ask", {})
    assert text_of(result) == '{"action": "accept", "content": {"name": "Ada"}}'
    (asked,) = person.asked
    assert "server: asking" in asked
    assert "message: Who?" in asked


async def test_what_a_server_asks_is_declined_where_the_client_cannot_ask(era: str) -> None:
    runtime = mcp.create_mcp_runtime(mcp_servers=[ASKING])
    async with client_of(runtime, era) as client:
        result = await client.call_tool("asking__ask", {})
    assert text_of(result) == '{"action": "decline"}'


async def test_a_server_that_cannot_be_reached_is_said_before_anything_is_served(era: str) -> None:
    gone = {"name": "gone", "command": ["no-such-program-anywhere"]}
    with pytest.raises(ConfigError, match="the MCP server 'gone' cannot be reached"):
        async with client_of(mcp.create_mcp_runtime(mcp_servers=[gone]), era):
            pass


async def test_a_question_in_the_middle_of_a_call_is_answered_over_http(era: str) -> None:
    runtime = mcp.create_mcp_runtime(agent="worker", mcp_servers=[ASKING])
    person = Person()
    async with (
        runtime,
        served(runtime) as url,
        Client(url, mode=era, elicitation_callback=person) as client,
    ):
        result = await client.call_tool("asking__ask", {})
    assert text_of(result) == '{"action": "accept", "content": {"name": "Ada"}}'
    assert len(person.asked) == 1
