"""The trace under what kills it: cuts, SIGKILL, a disk that fills up or fails, a second writer.

Rows C36, C37 and C38 of the reliability document; processes and file systems are real.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import TraceWriteError
from paddock.runtime.conversation.state import State
from paddock.runtime.conversation.trace import TraceWriter, encode_record, read_records

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from paddock.runtime.core.model import Message
    from paddock.runtime.session.session import Session
    from paddock.runtime.tools.base import ToolHandler
    from tests.unit.runtime.conftest import CountingBackend, Function, OpenSession

    CheckHistory = Callable[[Sequence[Message]], None]

PATIENCE = 60
"""Seconds for one program, on a machine that may be busy."""


def run_program(
    program: str, *args: object, before: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, "-c", program, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


# ------------------------------------------------------------------------------- cuts

KINDS = 5
RECORDS: list[dict[str, Any]] = [
    {"type": "message", "content": "é\n" * (number % KINDS)} for number in range(200)
]
LINES = [encode_record(record) for record in RECORDS]
MORE = {"type": "more"}


@pytest.mark.rows("C36", "D4")
def test_two_hundred_records_cut_at_any_byte_lose_none_that_was_whole(tmp_path: Path) -> None:
    """A session that goes on reads from where its state ends; so does each opening here."""
    trace, ends = b"".join(LINES), [0, *accumulate(map(len, LINES))]
    path, quarantine = tmp_path / "trace.jsonl", tmp_path / "trace.jsonl.torn-1"
    assert read_records(trace).records == RECORDS
    for number, end in enumerate(ends[1:]):
        for cut in _cuts(number, ends[number], end):
            path.write_bytes(trace[:cut])
            writer, records, torn = TraceWriter.open(path, start=ends[max(0, number - 1)])
            writer.append(MORE)
            writer.close()
            kept = end if cut >= end - 1 else ends[number]  # the newline alone may be missing
            assert path.read_bytes() == trace[:kept] + encode_record(MORE)
            assert records == RECORDS[max(0, number - 1) : number + (kept == end)]
            assert (torn is None) == (kept == end)
            if torn is not None:
                assert quarantine.read_bytes() == trace[kept:cut]
                quarantine.unlink()


def _cuts(number: int, begin: int, end: int) -> Sequence[int]:
    """Any byte of the first and the last of each kind, two of the others."""
    if KINDS <= number < len(RECORDS) - KINDS:
        return (begin + 1, end - 1)
    return range(begin + 1, end + 1)


# ---------------------------------------------------------------------------- SIGKILL

KILLING = """
import json, os, random, signal, sys
from pathlib import Path
from paddock.runtime.conversation.trace import TraceWriter

path, rounds, dice = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))

def write(first, acks):
    writer, _, _ = TraceWriter.open(path)
    number = first
    while True:
        writer.append({"type": "x", "number": number, "fill": "y" * (number * 997 % 20000)})
        os.write(acks, b"%d\\n" % number)
        number += 1

acknowledged, torn_tails = 0, 0
for _ in range(rounds):
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        write(acknowledged, theirs)
    os.close(theirs)
    with open(ours, "rb") as acks:
        for _ in range(dice.randrange(1, 30)):
            last = acks.readline()
        os.kill(child, signal.SIGKILL)
        rest = acks.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    acknowledged = int((last + rest).splitlines()[-1]) + 1
    writer, records, torn = TraceWriter.open(path)
    writer.close()
    torn_tails += torn is not None
    assert [record["number"] for record in records[:acknowledged]] == list(range(acknowledged))
    assert len(records) - acknowledged in (0, 1), "at most the one that was being written"
    acknowledged = len(records)
print(json.dumps({"acknowledged": acknowledged, "torn": torn_tails}))
"""


@pytest.mark.rows("C36")
def test_writers_that_are_killed_at_any_moment_lose_nothing_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    done = run_program(KILLING, path, 40, 1)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(read_records(path.read_bytes()).records) == told["acknowledged"] >= 40


# ------------------------------------------------------------ a disk that fills up or fails

FILLING = """
import asyncio, json, sys
from pathlib import Path
from paddock.errors import TraceWriteError
from paddock.runtime.agents.agent import Agent
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.models.scripted import ScriptedModel
from paddock.runtime.session.session import Session
from paddock.runtime.tools.base import ToolHandler
from paddock.runtime.core.tool import ToolOutput

class Talk(ToolHandler):
    name = "talk"
    description = "Says much."
    parameters = {"type": "object", "properties": {}}

    async def handle(self, invocation):
        return ToolOutput(content="word " * 3000)

class Kept:
    count = 0

    def on_event(self, event):
        self.count += 1

async def main():
    agent = Agent(AgentConfig(system_prompt="x", profile="unrestricted"))
    agent.registry.register(Talk())
    client = ScriptedModel([{"tool_calls": [{"name": "talk"}]}] * 1000)
    kept = Kept()
    async with Session(agent, session_dir=Path(sys.argv[1], "one"), client=client) as session:
        session.state.add_observer(kept)
        try:
            await session.run(prompt="Go.")
        except TraceWriteError as error:
            print(json.dumps({"error": str(error), "kept": kept.count}))

asyncio.run(main())
print(Path(sys.argv[1], "one", "trace.jsonl").read_text(), end="")
"""


@pytest.mark.rows("C37")
def test_a_run_whose_disk_is_full_stops_with_all_that_it_acknowledged(
    tmp_path: Path, require: Callable[[str, object, str], None]
) -> None:
    mounted = 'mount -t tmpfs -o size=1M none "$0" && exec "$@"'
    before = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted, str(tmp_path)]
    tried = subprocess.run([*before, "true"], capture_output=True, text=True, check=False)
    require("userns", tried.returncode == 0, tried.stderr)
    done = run_program(FILLING, tmp_path, before=before)
    assert done.returncode == 0, done.stderr
    told, *lines = done.stdout.splitlines()
    assert "No space left" in json.loads(told)["error"]
    assert len(lines) == json.loads(told)["kept"] > 10
    assert not read_records("".join(f"{line}\n" for line in lines).encode()).torn


class Failing:
    """Stands in for `os` in the trace: operation number `at` fails, and all after it.

    An `error` of EINTR is one write that the system interrupted, which is to be begun again;
    0 is one that wrote a part only, and is to be gone on with.
    """

    def __init__(self, at: int, error: int) -> None:
        self.at = at
        self.error = error
        self.calls = 0
        self.harmless = error in (0, errno.EINTR)

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in {"open", "write", "fdatasync", "ftruncate", "fsync"}:
            return real
        return lambda *args: self._call(name, real, *args)

    def _call(self, name: str, real: Callable[..., Any], *args: Any) -> Any:
        self.calls += 1
        if self.calls < self.at:
            return real(*args)
        if self.harmless:
            return self._disturb(name, real, *args)
        if name == "write" and self.calls == self.at and self.error == errno.ENOSPC:
            return real(args[0], bytes(args[1])[: len(args[1]) // 2])  # a full disk begins so
        raise OSError(self.error, os.strerror(self.error))

    def _disturb(self, name: str, real: Callable[..., Any], *args: Any) -> Any:
        if self.calls > self.at or name != "write":
            return real(*args)
        if self.error == errno.EINTR:
            raise InterruptedError
        return real(args[0], bytes(args[1])[:1])


class Acknowledged:
    """An observer: what it was shown has to be in the trace."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def on_event(self, event: dict[str, Any]) -> None:
        self.events.append(event)


@pytest.mark.rows("C37", "D4")
@pytest.mark.parametrize(
    "error", [errno.EIO, errno.ENOSPC, errno.EINTR, 0], ids=["EIO", "ENOSPC", "EINTR", "short"]
)
async def test_whichever_operation_fails_first_the_run_says_so_and_can_be_taken_up_again(
    open_session: OpenSession,
    asking: Callable[[Function], ToolHandler],
    backend: CountingBackend,
    check_history: CheckHistory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: int,
) -> None:
    """The run waits for approvals in the middle, and is resumed."""
    at, calls = 0, 1
    while calls >= at:
        at += 1
        session = _working(open_session, asking, tmp_path / str(at))
        acknowledged = Acknowledged()
        session.state.add_observer(acknowledged)
        with monkeypatch.context() as patch:
            faults = Failing(at, error)
            patch.setattr("paddock.runtime.conversation.trace.os", faults)
            whole = await _completes(session)
        calls = faults.calls
        failed = calls >= at and not faults.harmless
        assert whole != failed, "no failure was passed over in silence"
        trace = tmp_path / str(at) / "trace.jsonl"
        found = read_records(trace.read_bytes()).records if trace.exists() else []
        assert found[: len(acknowledged.events)] == acknowledged.events
        assert asyncio.all_tasks() == {asyncio.current_task()} | _keepers(session)
        session.approval_callback = lambda tool, arguments: True
        assert (await session.run(prompt="Again.")).status == "completed"
        check_history(session.state.messages)
        assert State.from_jsonl(trace.read_bytes()).messages == session.state.messages
        await session.close()
        assert not backend.live
    assert at > 25


def _working(
    open_session: OpenSession, asking: Callable[[Function], ToolHandler], directory: Path
) -> Session:
    async def work(context: Any) -> str:
        await context.sandbox()
        return "worked"

    def turn(request: Any) -> dict[str, Any]:
        if request.messages[-1]["role"] == "user":
            return {"tool_calls": [{"name": "work"}, {"name": "work"}]}
        return {"text": "Done."}

    nobody = {"auto_approve": False}
    return open_session([turn] * 9, asking(work), session_dir=directory, config=nobody)


async def _completes(session: Session) -> bool:
    try:
        waiting = (await session.run(prompt="Go.")).interruptions
        done = await session.resume({item.tool_call_id: True for item in waiting})
        assert done.status == "completed"
    except TraceWriteError:
        return False
    return True


def _keepers(session: Session) -> set[asyncio.Task[Any]]:
    """The task that holds the session's sandbox, if it was made."""
    return {task for task in asyncio.all_tasks() if task.get_name().startswith("sandbox")}


# ---------------------------------------------------------------------- a second writer

CONTENDING = """
import sys
from pathlib import Path
from paddock.runtime.conversation.trace import TraceWriter

path, name = Path(sys.argv[1]), sys.argv[2]
wins = 0
print("ready", flush=True)
sys.stdin.readline()
while wins < 300:
    try:
        writer, _, _ = TraceWriter.open(path)
    except BlockingIOError:
        continue
    try:
        path.with_name("held").touch(exist_ok=False)  # fails if another holds it
        writer.append({"type": "x", "by": name, "number": wins})
        path.with_name("held").unlink()
    finally:
        writer.close()
    wins += 1
"""


@pytest.mark.rows("C38")
def test_of_two_processes_that_want_a_trace_again_and_again_only_one_has_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "trace.jsonl"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CONTENDING, str(path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in "ab"
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outcomes = [process.communicate(timeout=PATIENCE) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outcomes
    records = read_records(path.read_bytes()).records
    for name in "ab":
        numbers = [record["number"] for record in records if record["by"] == name]
        assert numbers == list(range(300))
