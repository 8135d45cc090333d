"""`paddock mcp python` and `paddock mcp toolkit` as real processes, for the official client."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest
from mcp import Client, StdioServerParameters, types

if TYPE_CHECKING:
    from tests.e2e.conftest import Paddock

ERAS = ["2026-07-28", "legacy"]
PATIENCE = 60
HTTP = ["--transport", "streamable-http", "--port", "0"]
SHOP = """
from paddock import define_tool, mcp

@define_tool("echo", {"text": str}, "Echo text.")
async def echo(args, ctx):
    print("what a program prints is not for the client")
    return {"text": args["text"]}

def make():
    return mcp.create_mcp_runtime(tools=[echo])

runtime = make()
number = 3
"""

pytestmark = pytest.mark.rows("F-34", "F-41")


def text_of(result: types.CallToolResult) -> str:
    return "\n".join(each.text for each in result.content if isinstance(each, types.TextContent))


def server(paddock: Paddock, *arguments: str) -> StdioServerParameters:
    (paddock.cwd / "shop.py").write_text(SHOP)
    program, *rest = paddock.command("mcp", *arguments)
    return StdioServerParameters(
        command=program, args=rest, env=paddock.environment, cwd=paddock.cwd
    )


@pytest.mark.parametrize(("era", "name"), [(ERAS[0], "runtime"), (ERAS[1], "make")])
async def test_a_runtime_or_what_makes_one_is_served(era: str, name: str, paddock: Paddock) -> None:
    parameters = server(paddock, "python", f"shop:{name}", "--agent", "mcp")
    async with Client(parameters, mode=era) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["echo"]
        assert text_of(await client.call_tool("echo", {"text": "hi"})) == '{"text": "hi"}'


async def test_over_http_the_url_is_told_and_a_signal_ends_it(paddock: Paddock) -> None:
    server(paddock)
    with paddock.start("mcp", "python", "shop:make", "--agent", "mcp", *HTTP) as process:
        try:
            assert process.stderr is not None
            told = process.stderr.readline()
            found = re.fullmatch(r"paddock: serving MCP at (http://127\.0\.0\.1:\d+/mcp)\n", told)
            assert found is not None, told
            for era in ERAS:
                async with Client(found[1], mode=era) as client:
                    result = await client.call_tool("echo", {"text": era})
                    assert era in text_of(result)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 143
        finally:
            process.kill()


async def test_a_toolkit_is_served_without_a_program(paddock: Paddock) -> None:
    parameters = server(paddock, "toolkit", "--toolkit", "references", "--tenant-id", "acme")
    async with Client(parameters) as client:
        tools = (await client.list_tools()).tools
        assert {"resolveRef", "glimpseRef"} == {tool.name for tool in tools}


def test_an_agent_that_there_is_not_is_said(paddock: Paddock) -> None:
    server(paddock)
    done = paddock("mcp", "python", "shop:runtime", "--agent", "clerk")
    assert done.returncode == 1
    assert done.stderr == "paddock: there is no agent 'clerk'; there are mcp\n"
    assert not done.stdout
