"""A team of three levels, watched as one stream: an editor asks a researcher, who asks a reader."""

import asyncio
from typing import Any

from paddock import (
    Agent,
    AgentConfig,
    AgentToolHandler,
    MessageAdded,
    ModelRequest,
    RunFinished,
    ScriptedModel,
    Session,
    ToolFinished,
    ToolStarted,
)


def make_agent(prompt: str, *colleagues: AgentToolHandler) -> Agent:
    agent = Agent(AgentConfig(system_prompt=prompt, profile="developer"))
    for colleague in colleagues:
        agent.registry.register(colleague)
    return agent


def make_tool(name: str, agent: Agent) -> AgentToolHandler:
    return AgentToolHandler(tool_name=name, tool_description=f"Asks the {name}.", config=agent)


READER = make_agent("You are a reader: you look things up.")
RESEARCHER = make_agent("You are a researcher.", make_tool("reader", READER))
EDITOR = make_agent("You are an editor.", make_tool("researcher", RESEARCHER))


def call(name: str, **arguments: str) -> dict[str, Any]:
    return {"tool_calls": [{"name": name, "arguments": arguments}]}


SCRIPTS: dict[str, list[dict[str, Any]]] = {
    EDITOR.system_prompt: [
        call("researcher", instruction="How many moons has Mars?"),
        {"expect": "two", "text": "Mars has two moons."},
    ],
    RESEARCHER.system_prompt: [
        call("reader", instruction="Name the moons of Mars."),
        {"expect": "Deimos", "text": "It has two: Phobos and Deimos."},
    ],
    READER.system_prompt: [
        call("bash", command="printf 'Phobos\\nDeimos\\n' | sort"),
        {"expect": "Deimos", "text": "Deimos and Phobos."},
    ],
}


def answer(request: ModelRequest) -> dict[str, Any]:
    """Answer by the script of the agent that asks."""
    answers = [message for message in request.messages if message["role"] == "assistant"]
    return SCRIPTS[request.messages[0]["content"]][len(answers)]


async def main() -> None:
    async with (
        Session(EDITOR, client=ScriptedModel([answer, answer])) as session,
        session.stream_events("Write a line about Mars.") as envelopes,
    ):
        async for envelope in envelopes:
            who = " > ".join(["editor", *envelope.origin.agent_path])
            match envelope.event:
                case MessageAdded(message={"role": "user", "content": content}):
                    print(f"{who} is asked: {content}")
                case ToolStarted(tool_name=name):
                    print(f"{who} calls {name}")
                case ToolFinished(tool_name=name, success=success):
                    print(f"{who} has the result of {name}" + ("" if success else ", which failed"))
                case MessageAdded(message={"role": "assistant", "content": str(content)}):
                    print(f"{who} says: {content}")
                case RunFinished(status=status):
                    print(f"{who}: {status}")
    print(envelopes.result.text)


asyncio.run(main())
