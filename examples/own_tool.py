"""A tool of your own: it runs here, with whatever rights this program has."""

import asyncio
from typing import Any

from paddock import (
    Agent,
    AgentConfig,
    ScriptedModel,
    Session,
    ToolHandler,
    ToolInvocation,
    ToolOutput,
)

PRICES = {"apple": "0.40", "pear": "0.55"}


class PriceTool(ToolHandler):
    name = "price"
    description = "The price of a fruit, in euros."
    parameters = {  # noqa: RUF012
        "type": "object",
        "properties": {"fruit": {"type": "string"}},
        "required": ["fruit"],
    }

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        fruit = invocation.arguments["fruit"]
        if fruit not in PRICES:
            return ToolOutput(content=f"no price for {fruit}", success=False)
        return ToolOutput(content=PRICES[fruit])


SCRIPT: list[dict[str, Any]] = [
    {"tool_calls": [{"name": "price", "arguments": {"fruit": "pear"}}]},
    {"expect": "0.55", "text": "A pear is 55 cents."},
]


async def main() -> None:
    agent = Agent(AgentConfig(profile="readonly"))
    agent.registry.register(PriceTool())
    async with Session(agent, client=ScriptedModel(SCRIPT)) as session:
        result = await session.run(prompt="What is a pear?")
    print(result.text)


asyncio.run(main())
