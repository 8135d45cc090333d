"""A call that is approved by another process, after the one that asked was killed.

The first process runs an agent and waits for an approval. It is killed. Another one, here the
command line, answers. A third one resumes the run, and the call happens once.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from paddock import (
    Agent,
    AgentConfig,
    ApprovalRequested,
    ScriptedModel,
    SessionStore,
    ToolHandler,
    ToolInvocation,
    ToolOutput,
)

TURNS: list[dict[str, Any]] = [
    {"tool_calls": [{"name": "deploy", "arguments": {"version": "2.1"}}]},
    {"text": "Version 2.1 is out."},
]


class Deploy(ToolHandler):
    """Writes down that it was called, so that each call can be counted."""

    name = "deploy"
    description = "Deploy a version."
    requires_approval = True

    def __init__(self, log: Path) -> None:
        self.parameters = {"type": "object", "properties": {"version": {"type": "string"}}}
        self._log = log

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        with self._log.open("a") as file:
            file.write(f"deployed {invocation.arguments['version']}\n")
        return ToolOutput(content="deployed")


def make_agent(directory: Path) -> Agent:
    agent = Agent(AgentConfig(system_prompt="Deploy what is asked for.", auto_approve=False))
    agent.registry.register(Deploy(directory / "log"))
    return agent


async def begin(directory: Path) -> None:
    """Run until the call waits for an approval, and then on."""
    store = SessionStore(directory / "sessions")
    client = ScriptedModel(TURNS)
    session = store.create_session(make_agent(directory), session_id="release", client=client)
    session.approval_wait = True
    async with session, session.stream_events("Deploy version 2.1.") as events:
        async for envelope in events:
            if isinstance(envelope.event, ApprovalRequested):
                print(envelope.event.approval_id, flush=True)


async def go_on(directory: Path) -> None:
    """Resume the run, whose call was answered meanwhile."""
    store = SessionStore(directory / "sessions")
    client = ScriptedModel(TURNS)
    async with store.resume("release", make_agent(directory), client=client) as session:
        result = await session.resume()
    print(f"{result.status}: {result.text}")


def main(directory: Path) -> None:
    me = [sys.executable, __file__]
    asking = [*me, "begin", str(directory)]
    with subprocess.Popen(asking, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        approval = first.stdout.readline().strip()
        os.kill(first.pid, signal.SIGKILL)
    print(f"killed the process that waits for approval {approval}")

    paddock = [sys.executable, "-m", "paddock", "approvals"]
    options = ["--session-dir", str(directory / "sessions")]
    listed = subprocess.check_output([*paddock, "list", "--json", *options])
    print("waiting:", [each["request"]["tool"] for each in json.loads(listed)])
    subprocess.check_call([*paddock, "answer", approval, "--approve", *options])

    subprocess.check_call([*me, "go-on", str(directory)])
    print("the log:", (directory / "log").read_text().splitlines())


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["begin", name]:
            asyncio.run(begin(Path(name)))
        case ["go-on", name]:
            asyncio.run(go_on(Path(name)))
        case _:
            with tempfile.TemporaryDirectory() as name:
                main(Path(name))
