"""SIGKILL before and after each operation on the trace of a run that waits and is resumed (D4)."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 60

PROGRAM = """
import asyncio, collections, itertools, json, os, signal, sys
from pathlib import Path

import paddock.runtime.conversation.trace
from paddock.runtime.agents.agent import Agent
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.models.scripted import ScriptedModel
from paddock.runtime.session.session import Session
from paddock.runtime.tools.base import ToolHandler
from paddock.runtime.core.tool import ToolOutput
from paddock.runtime.conversation.trace import read_records

class Killing:
    def __init__(self, at, when):
        self.at, self.when, self.calls = at, when, 0

    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in {"open", "write", "fdatasync", "ftruncate", "fsync"}:
            return real
        return lambda *args: self.call(real, *args)

    def call(self, real, *args):
        self.calls += 1
        if self.calls == self.at and self.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args)
        if self.calls == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

class Effect(ToolHandler):
    name = "effect"
    description = "Has one."
    parameters = {"type": "object", "properties": {}}
    requires_approval = True

    def __init__(self, file):
        self.file = file

    async def handle(self, invocation):
        os.write(self.file, invocation.call_id.encode() + b"\\n")
        return ToolOutput(content="done")

class Acknowledge:
    def __init__(self, pipe):
        self.pipe = pipe

    def on_event(self, event):
        os.write(self.pipe, json.dumps(event).encode() + b"\\n")

def turn(request):
    if request.messages[-1]["role"] == "user":
        return {"tool_calls": [{"name": "effect"}, {"name": "effect"}]}
    return {"text": "Done."}

def open_session(directory, effects):
    agent = Agent(AgentConfig(system_prompt="x", profile="unrestricted", auto_approve=False))
    agent.registry.clear()
    agent.registry.register(Effect(effects))
    return Session(agent, session_dir=directory, client=ScriptedModel([turn] * 99))

async def run(session):
    waiting = (await session.run(prompt="Go.")).interruptions
    await session.resume({item.tool_call_id: True for item in waiting})

async def take_up(session):
    session.recover()
    waiting = session.state.pending_approvals
    if waiting:
        await session.resume({item.tool_call_id: True for item in waiting})
    session.approval_callback = lambda tool, arguments: True
    assert (await session.run(prompt="Again.")).status == "completed"
    open_calls = []
    for message in session.state.messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] == open_calls.pop(0)
        else:
            assert not open_calls
            open_calls = [call["id"] for call in message.get("tool_calls", ())]

def attempt(directory, at, when):
    effects = os.open(str(directory) + ".effects", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        session = open_session(directory, effects)
        session.state.add_observer(Acknowledge(theirs))
        paddock.runtime.conversation.trace.os = Killing(at, when)
        asyncio.run(run(session))
        os._exit(0)
    os.close(theirs)
    with open(ours, "rb") as pipe:
        acknowledged = [json.loads(line) for line in pipe]
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    trace = directory / "trace.jsonl"
    found = read_records(trace.read_bytes()).records if trace.exists() else []
    assert found[: len(acknowledged)] == acknowledged
    assert len(found) - len(acknowledged) in (0, 1), "at most the one that was being written"
    asyncio.run(take_up(open_session(directory, effects)))
    done = collections.Counter(Path(str(directory) + ".effects").read_text().split())
    assert set(done.values()) == {1}, f"a call ran twice: {done}"
    os.close(effects)
    return code == -signal.SIGKILL

base = Path(sys.argv[1])
killed = 0
for at in itertools.count(1):
    if not attempt(base / f"{at}-{sys.argv[2]}", at, sys.argv[2]):
        break
    killed += 1
print(json.dumps(killed))
"""


@pytest.mark.rows("C40", "C36", "D4")
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_operation_no_call_runs_twice_and_nothing_acknowledged_is_lost(
    tmp_path: Path, when: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(tmp_path), when],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) > 25
