"""An agent that works in a sandbox, watched. Its model is a script, so it needs no key.

With a key, leave `client` out and name a model: ``AgentConfig(model="gpt-5-mini", ...)``.
"""

import asyncio
from typing import Any

from paddock import Agent, AgentConfig, AgentEvent, LocalBackend, ScriptedModel, Session

SCRIPT: list[dict[str, Any]] = [
    {
        "text": "I will count the lines.",
        "tool_calls": [{"name": "bash", "arguments": {"command": "wc -l < poem.txt"}}],
    },
    {"expect": "3", "text": "The poem has three lines."},
]


def show(event: AgentEvent) -> None:
    match event.type:
        case "tool_start":
            print(f"calls {event.tool_name} {event.tool_args}")
        case "tool_end":
            print(f"gets {event.tool_result}")


async def main() -> None:
    backend = LocalBackend(setup=[r"printf 'one\ntwo\nthree\n' > poem.txt"])
    agent = Agent(AgentConfig(profile="developer", backend=backend))
    async with Session(agent, client=ScriptedModel(SCRIPT)) as session:
        result = await session.run(prompt="How many lines has poem.txt?", on_event=show)
    print(result.text)
    print(f"{result.status}, {result.usage['input_tokens']} tokens in")


asyncio.run(main())
