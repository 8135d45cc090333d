"""An agent for each of many tasks, in a batch that is stopped and then resumed.

The model is a script, so no key is needed.
"""

import asyncio
import tempfile
from typing import Any

from paddock import Agent, AgentConfig, Fleet, LocalBackend, ScriptedModel, TaskResult

TASKS = [{"id": f"question-{number}", "prompt": "Which system is this?"} for number in range(4)]


def agent() -> Agent:
    look = {"tool_calls": [{"name": "bash", "arguments": {"command": "uname -s"}}]}
    model = ScriptedModel([look, {"text": "It is Linux."}] * len(TASKS))
    return Agent(AgentConfig(profile="readonly"), model=model)


def shown(result: TaskResult[Any]) -> str:
    if result.error is not None:
        return str(result.error)
    return "finished earlier" if result.earlier else str(result.result and result.result.text)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/run"
        async with Fleet(LocalBackend(), out=out, limit=1) as fleet:
            async for result in fleet.map(agent(), TASKS):
                print(result.key, shown(result))
                break
        async with Fleet(LocalBackend(), out=out, limit=1, resume=True) as fleet:
            async for result in fleet.map(agent()):
                print(result.key, shown(result))


asyncio.run(main())
