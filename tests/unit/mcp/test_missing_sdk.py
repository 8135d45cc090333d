"""What needs the SDK says which extra brings it, and nothing else imports it."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT = "import sys; sys.modules['mcp'] = None\n"
SERVED = """
import asyncio
from paddock import LocalBackend, MissingDependency, mcp
runtime = mcp.create_mcp_runtime()
assert mcp.list_tools(runtime, agent="mcp") == []
for serving in (
    mcp.serve_sandbox(LocalBackend(isolation="none")),
    mcp.serve_stdio(runtime, agent="mcp"),
    mcp.serve_http(runtime, agent="mcp"),
):
    try:
        asyncio.run(serving)
    except MissingDependency as error:
        assert str(error) == "mcp is not installed; install it with: pip install 'paddock[mcp]'"
    else:
        raise AssertionError
"""
USED = """
import asyncio
from paddock import Agent, AgentConfig, MissingDependency, ScriptedModel, Session
config = AgentConfig(mcp_servers=[{"name": "a", "command": ["x"]}])

async def main():
    async with Session(Agent(config), client=ScriptedModel([])) as session:
        try:
            await session.run("Go.")
        except MissingDependency as error:
            assert "paddock[mcp]" in str(error)
        else:
            raise AssertionError

asyncio.run(main())
"""
NOT_NEEDED = """
import paddock.cli.app
import paddock.runtime.orchestration.runtime
from paddock import Agent, AgentConfig, Session, mcp
Session(Agent(AgentConfig()))
assert "mcp_types" not in sys.modules
"""


@pytest.mark.parametrize("program", [SERVED, USED, NOT_NEEDED])
def test_without_the_sdk(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT + program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
