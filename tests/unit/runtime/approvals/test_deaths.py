"""A run that waits in place, killed at each of its steps, then answered and resumed elsewhere."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from paddock.runtime.approvals.directory_store import DirectoryApprovalStore
from paddock.runtime.core.approval import Decision

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 100

PROGRAM = """
import asyncio, os, signal, sys
from pathlib import Path

from paddock import Agent, AgentConfig, ScriptedModel, Session, ToolHandler, ToolOutput

base, point, after = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
left = {point: after}

def reached(name):
    left[name] = left.get(name, 0) - 1
    if name == point and left[name] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

class Effect(ToolHandler):
    name, description = "effect", "Has one."
    parameters = {"type": "object", "properties": {}}
    requires_approval = True

    async def handle(self, invocation):
        with (base / "effects").open("a") as file:
            print(invocation.call_id, file=file)
        reached("effect")
        return ToolOutput(content="done")

class Points:
    def on_event(self, event):
        reached(event["type"])

def turn(request):
    if request.messages[-1]["role"] == "user":
        return {"tool_calls": [{"name": "effect", "id": "a"}, {"name": "effect", "id": "b"}]}
    return {"text": "Done."}

async def main():
    agent = Agent(AgentConfig(system_prompt="x", profile="unrestricted", auto_approve=False))
    agent.registry.register(Effect())
    client = ScriptedModel([turn] * 9)
    session = Session(agent, session_id="s", session_dir=base / "s", client=client)
    session.approval_wait = True
    session.state.add_observer(Points())
    store = session.approval_store
    ask, resolve = store.ask, store.resolve

    async def asked(request):
        known = await ask(request)
        reached("asked")
        return known

    store.ask = asked
    result = await (session.resume() if point == "resume" else session.run("Go."))
    print(result.status)

asyncio.run(main())
"""


def start(base: Path, point: str, after: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(base), point, str(after)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def approve_all(base: Path, process: subprocess.Popen[str]) -> None:
    """Approve what waits, whatever comes, until `process` ends or nothing waits any more."""

    async def approve() -> None:
        store = DirectoryApprovalStore(base / "s")
        for each in await store.list(status="pending"):
            await store.resolve(each.request.id, Decision(outcome="approve"))

    while process.poll() is None:
        asyncio.run(approve())
    asyncio.run(approve())


@pytest.mark.rows("C40", "C54")
@pytest.mark.parametrize(
    ("point", "after", "lost"),
    [
        ("asked", 1, set()),
        ("approval_required", 1, set()),
        ("asked", 2, set()),
        ("approval_required", 2, set()),
        ("approval", 1, set()),
        ("approval", 2, set()),
        ("tool_start", 1, {"a"}),
        ("effect", 1, set()),
        ("tool_end", 1, set()),
        ("effect", 2, set()),
    ],
)
def test_each_call_happens_once_whenever_the_process_dies(
    tmp_path: Path, point: str, after: int, lost: set[str]
) -> None:
    with start(tmp_path, point, after) as first:
        approve_all(tmp_path, first)
        assert first.wait(PATIENCE) == -signal.SIGKILL
    with start(tmp_path, "resume") as second:
        approve_all(tmp_path, second)
        output, _ = second.communicate(timeout=PATIENCE)
    assert output == "completed\n"
    done = (tmp_path / "effects").read_text().split() if (tmp_path / "effects").exists() else []
    assert sorted(done) == sorted({"a", "b"} - lost)
    statuses = [each.status for each in asyncio.run(DirectoryApprovalStore(tmp_path / "s").list())]
    assert "pending" not in statuses
    trace = [json.loads(line) for line in (tmp_path / "s" / "trace.jsonl").read_text().splitlines()]
    results = [each for each in trace if each.get("role") == "tool"]
    assert sorted(each["tool_call_id"] for each in results) == ["a", "b"]
