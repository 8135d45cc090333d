"""An agent with one MCP server, as the client that MCP's conformance tests run.

Run as ``python client.py URL``. The agent calls each tool that the server has, and who approves
its calls accepts what the server asks.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from paddock import Agent, AgentConfig, LocalBackend, ScriptedModel, Session

if TYPE_CHECKING:
    from paddock.runtime.core.model import ModelRequest

ARGUMENTS = {"add_numbers": {"a": 5, "b": 3}, "valid_tool": {"region": "eu"}}
CONTEXT = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))


def calls(request: ModelRequest) -> dict[str, Any]:
    """Call what the test says, or each tool that the server has."""
    told = CONTEXT.get("toolCalls")
    if told is None:
        names = [tool["function"]["name"] for tool in request.tools]
        known = [name.removeprefix("web__") for name in names if name.startswith("web__")]
        told = [{"name": name, "arguments": ARGUMENTS.get(name, {})} for name in known]
    called = [{**each, "name": f"web__{each['name']}"} for each in told]
    return {"tool_calls": called} if called else {"text": "there is none"}


async def main(url: str) -> None:
    config = AgentConfig(
        mcp_servers=[{"name": "web", "url": url}],
        profile="unrestricted",
        backend=LocalBackend(isolation="none"),
    )
    async with Session(Agent(config), client=ScriptedModel([calls, {"text": "done"}])) as session:
        session.approval_callback = lambda _name, _arguments: True
        result = await session.run("Go.")
        if result.status != "completed":
            sys.exit(f"{result.status}: {result.reason}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
