"""SIGKILL at each operation on the files of a run whose agent waits for an approval."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 110

EVERY = int(os.environ.get("PADDOCK_KILL_EVERY", "5"))
"""At each how many operations the process is killed; `make stress` has 1."""

PROGRAM = """
import asyncio, itertools, json, os, signal, sqlite3, sys
from pathlib import Path

import paddock.runtime.approvals.directory_store
import paddock.runtime.approvals.stores
import paddock.runtime.conversation.trace
from paddock import (
    Agent, AgentConfig, AgentToolHandler, Decision, ScriptedModel, Session, SqliteApprovalStore,
    SqliteConversationStore, ToolHandler, ToolOutput,
)
from paddock.runtime.core.database import PrivateDatabase

paddock.runtime.approvals.stores.POLL_INTERVAL = 0.01
base, kind = Path(sys.argv[1]), sys.argv[2]

class Points:
    '''Counts what is done to files, and dies before or after one of these.'''

    at = calls = 0

    def reached(self):
        self.calls += 1
        if self.calls == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, real, *args, **kwargs):
        self.reached()
        result = real(*args, **kwargs)
        self.reached()
        return result

    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in {"write", "fdatasync", "fsync"}:
            return real
        return lambda *args: self.around(real, *args)

points = Points()

class Effect(ToolHandler):
    name, description = "effect", "Has one."
    parameters = {"type": "object", "properties": {}}
    requires_approval = True

    async def handle(self, invocation):
        log("effect")
        return ToolOutput("done")

def log(what):
    with (place / "log").open("a") as file:
        print(what, file=file)

class Model(ScriptedModel):
    def __init__(self, name, tool):
        super().__init__([self.answer] * 99)
        self.name, self.tool = name, tool

    def answer(self, request):
        log("answer")
        last = request.messages[-1]
        usage = {"input_tokens": 1}
        if last["role"] == "tool":
            return {"text": f"{self.name}: {last['content']}", "usage": usage}
        arguments = {"instruction": "Go."} if self.tool != "effect" else {}
        call = {"name": self.tool, "id": "c", "arguments": arguments}
        return {"tool_calls": [call], "usage": usage}

def worker(name, tool, *handlers):
    agent = Agent(AgentConfig(system_prompt=name, auto_approve=False), model=Model(name, tool))
    agent.registry.clear()
    for each in handlers:
        agent.registry.register(each)
    return agent

def as_tool(agent):
    name = agent.config.system_prompt
    return AgentToolHandler(tool_name=name, tool_description=".", config=agent)

def opened():
    manager = worker("manager", "worker", as_tool(worker("worker", "effect", Effect())))
    boss = worker("boss", "manager", as_tool(manager))
    if kind == "directory":
        session = Session(boss, session_id="s", session_dir=place / "s")
        approvals = session.approval_store
    else:
        store = SqliteConversationStore(place / "c.db")
        session = Session(boss, session_id="s", store=store)
        approvals = session.approval_store = SqliteApprovalStore(place / "a.db")
    session.keeps_open = session.approval_wait = True
    return session, approvals

async def approve(approvals):
    while True:
        for each in await approvals.list(status="pending"):
            log(f"approve {each.request.agent_path}")
            await approvals.resolve(each.request.id, Decision(outcome="approve"))
        await asyncio.sleep(0.01)

async def attempt(resumed):
    session, approvals = opened()
    answering = asyncio.create_task(approve(approvals))
    async with session:
        if resumed and (await session.load()).runs_started:
            if session.state.status == "completed":
                result = None
            else:
                result = await session.resume()
        else:
            result = await session.run("Go.")
    answering.cancel()
    left = await approvals.list()
    return session.state, result, left

def check(state, result, left):
    assert state.status == "completed", state.status
    lines = (place / "log").read_text().split("\\n")
    (told,) = [each["content"] for each in state.messages if each["role"] == "tool"]
    done = lines.count("effect")
    assert done == 1 or (done == 0 and "Unknown" in told), (done, told)
    assert "done" in told or "Unknown" in told, told
    assert [each.status for each in left] == ["answered"], left
    assert len([each for each in lines if each.startswith("approve")]) in (1, 2), lines
    answers = lines.count("answer")
    assert answers <= 7, f"{answers} answers: at most the one that was lost came again"
    assert 6 <= state.total.input_tokens <= answers, (state.total.input_tokens, answers)

paddock.runtime.conversation.trace.os = points
paddock.runtime.approvals.directory_store.os = points
append = paddock.runtime.approvals.directory_store._append
paddock.runtime.approvals.directory_store._append = lambda *args: points.around(append, *args)
commit = PrivateDatabase.transact

def transact(self, work, *, writing=True):
    if not writing:
        return commit(self, work, writing=writing)
    return points.around(commit, self, work)

PrivateDatabase.transact = transact
PrivateDatabase.do = lambda self, work, *, writing=True: asyncio.to_thread(
    self.transact, work, writing=writing
)

killed = 0
for at in itertools.count(1, int(sys.argv[3])):
    place = base / str(at)
    place.mkdir()
    child = os.fork()
    if child == 0:
        points.at, points.calls = at, 0
        asyncio.run(attempt(False))
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    try:
        check(*asyncio.run(attempt(True)))
    except BaseException:
        print("killed at", at, file=sys.stderr)
        raise
    if code == 0:
        break
    killed += 1
print(killed)
"""


@pytest.mark.rows("F-36", "F-37", "F-38")
@pytest.mark.parametrize(("kind", "least"), [("directory", 60), ("sqlite", 30)])
def test_agents_killed_at_any_operation_continue_where_they_were(
    tmp_path: Path, kind: str, least: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(tmp_path), kind, str(EVERY)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) > least / EVERY
