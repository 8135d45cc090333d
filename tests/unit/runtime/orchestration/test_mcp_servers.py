"""MCP servers of a multi-agent runtime: their tools are its agents', and gated by their names."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock import LocalBackend, McpServer, create_runtime
from paddock.runtime.orchestration.define import (
    define_coordinator,
    define_runtime,
    define_specialist,
    define_tenant,
    define_tool,
)
from paddock.runtime.orchestration.spec import RuntimeSpec
from tests.unit.runtime.orchestration.teams import (
    MODEL,
    PATIENCE,
    PROVIDERS,
    call,
    of_type,
    read,
    results,
    script,
)

if TYPE_CHECKING:
    from paddock.runtime.orchestration.spec import ToolSpec

PLAIN = [sys.executable, str(Path(__file__).parents[2] / "mcp/plain_server.py")]

pytestmark = pytest.mark.rows("F-41")


def team(*tools: ToolSpec, tool_approvals: Any = None, **server: Any) -> RuntimeSpec:
    return define_runtime(
        define_tenant("acme", "v1"),
        agents=[
            define_coordinator("lead", model=MODEL, prompt="Lead.", routes=["worker"]),
            define_specialist(
                "worker", model=MODEL, prompt="W.", tools=tools, tool_approvals=tool_approvals
            ),
        ],
        mcp_servers=[{"name": "plain", "command": PLAIN, **server}],
        providers=PROVIDERS,
        backend=LocalBackend(isolation="none"),
    )


def test_servers_are_data_in_both_spellings() -> None:
    spec = team(callTimeout=7, headers={})
    assert spec.mcp_servers == (McpServer(name="plain", command=PLAIN, call_timeout=7),)
    dumped = spec.model_dump(by_alias=True, mode="json")
    assert dumped["mcpServers"] == [{"name": "plain", "command": PLAIN, "callTimeout": 7}]
    assert RuntimeSpec.model_validate({**dumped, "backend": None}).mcp_servers == spec.mcp_servers


def test_a_rule_for_a_server_that_there_is_not_is_said() -> None:
    with pytest.raises(ValueError, match=r"'docs__search', and there is no MCP server of that na"):
        team(tool_approvals={"docs__search": "always"})


async def test_agents_at_any_depth_call_its_tools_in_the_sandbox_of_their_thread() -> None:
    @define_tool("where", {})
    async def where(args: dict[str, Any], ctx: Any) -> str:
        await ctx.sandbox.exec("echo from-the-thread > word")
        return "written"

    runtime = create_runtime(team(where), interpreter="scripted")
    inner = script(call("where"), call("plain__file", text="word"))
    async with runtime:
        outer = script(
            call("plain__echo", text="top"), call("call_agent", agent="worker", prompt=inner)
        )
        events = await read(runtime.query(outer, "t"))
    assert results(events)[:3] == ["top", "written", "from-the-thread\n"]


async def test_a_call_is_gated_by_its_name_and_waits_for_an_answer() -> None:
    spec = team(tool_approvals={"plain__echo": "always"})
    async with create_runtime(spec, interpreter="scripted") as runtime:
        events = []
        prompt = script(call("plain__echo", text="x"), call("plain__noise", text="y"))
        async with asyncio.timeout(PATIENCE):
            async for event in runtime.run_specialist("worker", prompt):
                events.append(event)
                if event["type"] == "approval-required":
                    assert event["data"]["target"] == "plain__echo"
                    await runtime.respond_to_approval(event["data"]["id"], "approve")
    assert results(events) == ["x", "y"]
    assert len(of_type(events, "approval-required")) == 1


async def test_a_server_that_always_asks_is_gated_unless_the_agent_names_its_tool() -> None:
    for rules, gated in ((None, 1), ({"plain__echo": "never"}, 0)):
        spec = team(approval="always", tool_approvals=rules)
        async with create_runtime(spec, interpreter="scripted") as runtime:
            stream = runtime.run_specialist("worker", script(call("plain__echo", text="x")))
            async with asyncio.timeout(PATIENCE):
                async for event in stream:
                    if event["type"] == "approval-required":
                        break
            await stream.aclose()
            assert len(await runtime.approvals(None)) == gated


async def test_a_server_that_cannot_be_reached_ends_the_run_with_an_error_that_names_it() -> None:
    spec = team(command=["no-such-program-anywhere"])
    async with create_runtime(spec, interpreter="scripted") as runtime:
        events = await read(runtime.run_specialist("worker", script(call("plain__echo"))))
    (error,) = of_type(events, "error")
    assert "the MCP server 'plain' cannot be reached" in error["error"]["message"]


@pytest.mark.parametrize("options", [{}, {"testing": {"mock_response": "hello"}}])
async def test_where_nothing_calls_tools_no_server_is_started(options: dict[str, Any]) -> None:
    runtime = create_runtime(team(command=["no-such-program-anywhere"]), **options)
    assert of_type(await read(runtime.query("Hi", "t")), "finish")
