"""Processes that die in the middle, and processes that want the same session."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import SessionError, SessionLocked
from paddock.runtime.agents.agent import Agent
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.conversation.directory import SessionDirectory
from paddock.runtime.models.scripted import ScriptedModel
from paddock.runtime.session.store import SessionStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from paddock.runtime.core.model import Message, ModelRequest

PATIENCE = 60

PROGRAM = """
import asyncio, json, os, signal, sys
from pathlib import Path
from paddock.runtime.agents.agent import Agent
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.models.scripted import ScriptedModel
from paddock.runtime.session.session import Session
from paddock.runtime.session.store import SessionStore
from paddock.runtime.tools.base import ToolHandler
from paddock.runtime.core.tool import ToolOutput

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
    requires_approval = len(sys.argv) > 4
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
        reached(event["type"])
        if event["type"] == "tool_start":
            reached("after intent")
        if event.get("role") == "tool":
            reached("after result")

async def main():
    config = AgentConfig(system_prompt="x", profile="unrestricted", auto_approve=False)
    agent = Agent(config)
    agent.registry.register(Deploy())
    decisions = json.loads(sys.argv[4]) if len(sys.argv) > 4 else {}
    store = SessionStore(base)
    if not decisions:
        store.create_session(agent, session_id=session_id)
    turns = [{"tool_calls": [{"name": "deploy", "id": "it"}]}, {"text": "Done."}]
    client = ScriptedModel(turns)
    session = Session(agent, session_id=session_id, session_dir=base / session_id, client=client)
    session.state.add_observer(Points())
    if decisions:
        result = await session.resume(decisions)
    else:
        result = await session.run(prompt="Deploy.")
    print(result.status)

asyncio.run(main())
"""


def start(
    base: Path, point: str, decisions: Mapping[str, bool] | None = None
) -> subprocess.Popen[str]:
    """With `decisions`, none included, the call needs an approval."""
    more = [] if decisions is None else [json.dumps(decisions)]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(base), "one", point, *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def agent() -> Agent:
    return Agent(AgentConfig(system_prompt="x", profile="unrestricted"))


@pytest.mark.rows("C40")
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

    session._resources.given_client = ScriptedModel([heard, heard, heard])
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
            with pytest.raises(SessionLocked, match=f"process {process.pid} on") as caught:
                store.resume("one", agent)
            assert (caught.value.pid, caught.value.host) == (process.pid, socket.gethostname())
            assert dt.datetime.fromisoformat(str(caught.value.since)).tzinfo is not None
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


def outcome(process: subprocess.Popen[str]) -> str:
    with process:
        return process.communicate(timeout=PATIENCE)[0].strip()


def effects(base: Path) -> int:
    path = base / "effects"
    return len(path.read_text()) if path.exists() else 0


@pytest.mark.rows("C40", "O-20")
@pytest.mark.parametrize("point", ["approval_required", "usage"])
async def test_what_waits_for_an_approval_waits_also_after_its_process_was_killed(
    tmp_path: Path, point: str
) -> None:
    assert outcome(start(tmp_path, point, {})) == ""
    store = SessionStore(tmp_path)
    assert store.info("one").status == "interrupted"
    assert [i.tool_call_id for i in store.load_state("one").pending_approvals] == ["it"]
    assert outcome(start(tmp_path, "none", {"it": True})) == "completed"
    assert effects(tmp_path) == 1
    assert store.info("one").status == "completed"


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose only session waits for an approval; its process has ended."""
    base = tmp_path_factory.mktemp("interrupted")
    assert outcome(start(base, "none", {})) == "interrupted"
    return base


@pytest.mark.rows("C40", "C54")
@pytest.mark.parametrize(
    ("point", "ran", "told"),
    [
        ("run_start", 0, None),
        ("approval", 0, None),
        ("after intent", 0, "Unknown: the process died while this call ran."),
        ("after exec", 1, "Unknown: the process died while this call ran."),
        ("after result", 1, "deployed"),
    ],
)
async def test_an_approval_is_not_used_again_by_who_comes_after_a_crash(
    tmp_path: Path,
    agent: Agent,
    check_history: Callable[[Sequence[Message]], None],
    point: str,
    ran: int,
    told: str | None,
    interrupted: Path,
) -> None:
    shutil.copytree(interrupted, tmp_path, dirs_exist_ok=True)
    assert outcome(start(tmp_path, point, {"it": True})) == ""
    session = SessionStore(tmp_path).resume("one", agent)
    assert effects(tmp_path) == ran
    if told is None:  # the decision was not recorded, and is still waited for, or was not used
        waits = [item.tool_call_id for item in session.state.pending_approvals]
        kept = [decided.tool_call_id for decided in session.state.decisions]
        assert (waits, kept) == ((["it"], []) if point == "run_start" else ([], ["it"]))
        return
    assert not session.state.pending_approvals
    (answer,) = [m["content"] for m in session.state.messages if m["role"] == "tool"]
    assert answer.startswith(told)
    check_history(session.state.messages)
    with pytest.raises(SessionError, match="no call of this session waits"):
        await session.resume({"it": True})
    assert effects(tmp_path) == ran


CONTROLLED = """
import asyncio, sys
from paddock import Agent, AgentConfig, ScriptedModel, Session

async def main():
    turns = [{"text": "One."}]
    session = Session(
        Agent(AgentConfig(system_prompt="x")), session_dir=sys.argv[1], client=ScriptedModel(turns)
    )
    session.state.add_observer(Said())
    result = await session.run(prompt="Go.")
    print(result.status, result.reason, session.state.get_user_messages(), flush=True)

class Said:
    def on_event(self, event):
        print(event["type"], flush=True)

asyncio.run(main())
"""


@pytest.mark.rows("S-21", "S-32", "S-38")
@pytest.mark.parametrize(
    ("cancelled", "told"),
    [
        (True, "cancelled requested ['Go.']"),
        (False, "completed None ['Go.', 'first', 'second', 'third']"),
    ],
)
def test_another_process_pauses_directs_and_cancels_a_run_by_its_directory(
    tmp_path: Path, cancelled: bool, told: str
) -> None:
    directory = SessionDirectory(tmp_path / "one")
    directory.make()
    directory.request_pause()
    command = [sys.executable, "-c", CONTROLLED, str(directory.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "run_start\n"
        for text in ("first", "second", "third"):
            directory.add_directive(text)
        if cancelled:
            directory.request_cancel()
        else:
            directory.clear_pause()
        lines = process.communicate(timeout=PATIENCE)[0].splitlines()
    assert lines[-1] == told
    assert not directory.cancel_requested()
    assert not directory.paused()
