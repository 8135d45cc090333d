"""An MCP server in the sandbox of its agent, behind the fence."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from paddock import Agent, AgentConfig, Backend, DockerBackend, LocalBackend, ScriptedModel, Session
from paddock.backends.local import probe

if TYPE_CHECKING:
    from tests.conftest import Require
    from tests.e2e.conftest import Paddock

SERVER = Path(__file__).parents[1] / "unit/mcp/plain_server.py"


async def read_by_a_server(backend: Backend) -> list[str]:
    """What a server in the sandbox says of its environment, in two runs of one session."""
    server = {"name": "plain", "command": ["python3", "server.py"]}
    agent = Agent(AgentConfig(backend=backend, mcp_servers=[server], profile="unrestricted"))
    calls = [{"tool_calls": [{"name": "plain__echo", "arguments": {"text": "$WORD"}}]}]
    model = ScriptedModel([*calls, {"text": "a"}, *calls, {"text": "b"}])
    async with Session(agent, client=model) as session:
        for _ in range(2):
            result = await session.run("Go.")
            assert result.status == "completed"
        return [str(each["content"]) for each in session.state.messages if each["role"] == "tool"]


async def test_a_server_runs_behind_the_fence_of_the_local_sandbox(require: Require) -> None:
    found = await probe()
    require("bubblewrap", found.level == "bubblewrap", found.reason)
    backend = LocalBackend(
        isolation="bubblewrap", uploads=[(str(SERVER), "server.py")], env_vars={"WORD": "inside"}
    )
    assert await read_by_a_server(backend) == ["inside", "inside"]


@pytest.mark.docker
async def test_a_server_runs_in_a_container(base_image: str) -> None:
    backend = DockerBackend(
        image=base_image, uploads=[(str(SERVER), "server.py")], env_vars={"WORD": "inside"}
    )
    assert await read_by_a_server(backend) == ["inside", "inside"]


async def test_a_server_whose_sandbox_was_renewed_runs_in_the_new_one() -> None:
    backend = LocalBackend(isolation="none", uploads=[(str(SERVER), "server.py")])
    server = {"name": "plain", "command": ["python3", "server.py"]}
    agent = Agent(AgentConfig(backend=backend, mcp_servers=[server], profile="unrestricted"))
    calls = [{"tool_calls": [{"name": "plain__echo", "arguments": {"text": "x"}}]}]
    model = ScriptedModel([*calls, {"text": "a"}, *calls, {"text": "b"}])
    async with Session(agent, client=model) as session:
        await session.run("Go.")
        session.renew_sandbox()
        async with asyncio.timeout(60):
            await session.run("Go.")
        told = [each["content"] for each in session.state.messages if each["role"] == "tool"]
    assert told == ["x", "x"]


AGENT = """\
model: scripted:script.yaml
profile: unrestricted
backend: {{type: local, isolation: none}}
mcp_servers:
- name: plain
  command: [python3, {server}]
  where: {where}
"""
SCRIPT = """\
- tool_calls: [{name: plain__echo, arguments: {text: hello-from-a-server}}]
- text: Done.
"""


def write_agent(paddock: Paddock, where: str) -> None:
    (paddock.cwd / "agent.yaml").write_text(AGENT.format(server=SERVER, where=where))
    (paddock.cwd / "script.yaml").write_text(SCRIPT)


@pytest.mark.parametrize("where", ["sandbox", "host"])
def test_a_file_of_an_agent_lists_servers_once_it_is_trusted(paddock: Paddock, where: str) -> None:
    write_agent(paddock, where)
    refused = paddock("run", "-c", "agent.yaml", "Say hello.")
    assert refused.returncode == 1
    assert "mcp_servers.plain.command" in refused.stderr
    done = paddock("run", "-c", "agent.yaml", "--trust", "Say hello.", "--json")
    assert done.returncode == 0, done.stderr
    assert "hello-from-a-server" in done.stdout


def test_a_file_may_list_servers_of_a_fenced_sandbox_without_trust(paddock: Paddock) -> None:
    (paddock.cwd / "agent.yaml").write_text(
        "model: scripted:script.yaml\nmcp_servers: [{name: plain, command: [no-such-server]}]\n"
    )
    (paddock.cwd / "script.yaml").write_text(SCRIPT)
    done = paddock("run", "-c", "agent.yaml", "Say hello.")
    assert done.returncode == 1
    assert "the MCP server 'plain' cannot be reached" in done.stderr
    assert "not trusted" not in done.stderr
