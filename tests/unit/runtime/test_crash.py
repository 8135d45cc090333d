"""Processes that die in the middle, and processes that want the same session."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import SessionLocked
from paddock.runtime.agent import Agent
from paddock.runtime.config import AgentConfig
from paddock.runtime.models.scripted import ScriptedModel
from paddock.runtime.store import SessionStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from paddock.runtime.models.base import Message, ModelRequest

PATIENCE = 30

PROGRAM = """
import asyncio, os, signal, sys
from pathlib import Path
from paddock.runtime.agent import Agent
from paddock.runtime.config import AgentConfig
from paddock.runtime.models.scripted import ScriptedModel
from paddock.runtime.session import Session
from paddock.runtime.store import SessionStore
from paddock.runtime.tools.base import ToolHandler, ToolOutput

base, session_id, point = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def reached(name):
    if point == name:
        os.kill(os.getpid(), signal.SIGKILL)
    if point == "hold" and name == "after exec":
        print("holding", flush=True)
        sys.stdin.read()

class Deploy(ToolHandler):
    name = "deploy"
    description = "Has an effect."
    parameters = {"type": "object", "properties": {}}

    async def handle(self, invocation):
        with (base / "effects").open("a") as file:
            file.write("x")
        reached("after exec")
        return ToolOutput(content="deployed")

class Points:
    def on_event(self, event):
        if event.get("tool_calls"):
            reached("before intent")
        if event["type"] == "tool_start":
            reached("after intent")
        if event.get("role") == "tool":
            reached("after result")

async def main():
    agent = Agent(AgentConfig(system_prompt="x", profile="unrestricted"))
    agent.registry.register(Deploy())
    store = SessionStore(base)
    made = store.create_session(agent, session_id=session_id)
    client = ScriptedModel([{"tool_calls": [{"name": "deploy"}]}, {"text": "Done."}])
    session = Session(agent, session_id=session_id, session_dir=made.directory.path, client=client)
    session.state.add_observer(Points())
    result = await session.run(prompt="Deploy.")
    print(result.status)

asyncio.run(main())
"""


def start(base: Path, point: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(base), "one", point],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def agent() -> Agent:
    return Agent(AgentConfig(system_prompt="x", profile="unrestricted"))


@pytest.mark.parametrize(
    ("point", "effects", "told"),
    [
        ("before intent", 0, "Not run: the process died before this call began."),
        ("after intent", 0, "Unknown: the process died while this call ran."),
        ("after exec", 1, "Unknown: the process died while this call ran."),
        ("after result", 1, "deployed"),
    ],
)
async def test_a_killed_run_is_resumed_without_running_a_call_again(
    tmp_path: Path,
    agent: Agent,
    check_history: Callable[[Sequence[Message]], None],
    point: str,
    effects: int,
    told: str,
) -> None:
    with start(tmp_path, point) as process:
        process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL
    store = SessionStore(tmp_path)
    assert store.info("one").status == "interrupted"

    session = store.resume("one", agent)
    assert session.state.status == "interrupted"
    (answer,) = [m["content"] for m in session.state.messages if m["role"] == "tool"]
    assert answer.startswith(told)
    check_history(session.state.messages)

    def heard(request: ModelRequest) -> dict[str, Any]:
        check_history(request.messages[1:])
        return {"text": "I see."}

    session._given_client = ScriptedModel([heard, heard, heard])
    assert (await session.run(prompt="And?")).status == "completed"
    done = (tmp_path / "effects").read_text() if (tmp_path / "effects").exists() else ""
    assert len(done) == effects, "no call was run a second time"
    lines = (tmp_path / "one" / "trace.jsonl").read_text().splitlines()
    ends = [line for line in map(json.loads, lines) if line["type"] == "run_end"]
    assert [(end["run_id"], end["status"]) for end in ends] == [
        (1, "interrupted"),
        (2, "completed"),
    ]
    assert store.info("one").status == "completed"


@pytest.mark.rows("C38")
def test_a_session_in_use_is_locked_and_free_again_when_its_process_dies(
    tmp_path: Path, agent: Agent
) -> None:
    store = SessionStore(tmp_path)
    with start(tmp_path, "hold") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        for _ in range(20):
            with pytest.raises(SessionLocked, match=f"process {process.pid} on"):
                store.resume("one", agent)
            assert store.info("one").status == "running"
        process.kill()
        process.wait(PATIENCE)
        assert store.info("one").status == "interrupted"
        store.resume("one", agent)
        process.communicate()


@pytest.mark.rows("C38")
def test_of_many_processes_that_want_a_session_one_has_it(tmp_path: Path) -> None:
    processes = [start(tmp_path, "none") for _ in range(4)]
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    assert sorted(outputs) == ["", "", "", "completed\n"]
