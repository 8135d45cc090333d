"""A sandbox for any MCP client: here the official one, which starts `paddock mcp sandbox`."""

import asyncio
import os
import sys

from mcp import Client, StdioServerParameters, types

SERVER = StdioServerParameters(
    command=sys.executable,
    args=["-m", "paddock", "mcp", "sandbox", "--no-project", "--setup", "echo 42 > answer"],
    env=dict(os.environ),
)


async def ask(
    context: object, params: types.ElicitRequestURLParams | types.ElicitRequestFormParams
) -> types.ElicitResult:
    """A real client shows this to a person."""
    print("asked:", params.message.replace("\n", " "))
    return types.ElicitResult(action="accept")


async def main() -> None:
    async with Client(SERVER, elicitation_callback=ask) as client:
        print("tools:", *(tool.name for tool in (await client.list_tools()).tools))
        for command in ("cat answer", "rm -rf answer"):  # the second one needs an approval
            result = await client.call_tool("bash", {"command": command})
            print([each.text for each in result.content if isinstance(each, types.TextContent)])


asyncio.run(main())
