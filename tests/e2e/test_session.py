"""The SDK's documented programs, as processes: a real client, a real sandbox, real files.

Each program is the documentation's, with the import line of this package. The model is
a script behind a real socket.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock import Agent, AgentConfig, Session, State
from paddock.backends.local import LocalBackend
from paddock.runtime.models.openai import OpenAIModel
from paddock.runtime.models.scripted import ScriptedModel
from paddock.testing.model_server import ModelServer, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock import AgentEvent
    from tests.e2e.conftest import Paddock

PATIENCE = 60

BASIC = """
import asyncio
from paddock import Agent, AgentConfig, Session, SessionStore

config = AgentConfig(
    system_prompt="You are a research assistant.",
    profile="developer",
    model="gpt-5-mini",
    working_dir="{work}",
)

agent = Agent(config)
session = Session(agent)

async def main() -> None:
    result = await session.run(prompt="Analyze recent failures and summarize root causes.")
    print(result.text)

asyncio.run(main())
"""

MULTI_RUN = """
agent = Agent(AgentConfig(system_prompt="You are a database analyst.", profile="readonly"))
session = Session(agent)

r1 = await session.run(prompt="List all tables in the database.")
print(r1.text)

r2 = await session.run(prompt="Show me the schema for the users table.")
print(r2.text)

r3 = await session.run(prompt="Find users who signed up in the last 7 days.")
print(r3.text)
"""

CUSTOM_TOOLS = """
agent = Agent(AgentConfig(profile="developer"))
agent.registry.register(my_custom_handler)

session = Session(agent)
result = await session.run(prompt="Use my custom tool to process the data.")
print(result.text)
"""

HANDLER = """
from paddock import ToolHandler, ToolInvocation, ToolOutput

class Process(ToolHandler):
    name = "process"
    description = "Processes the data."
    parameters = {"type": "object", "properties": {"data": {"type": "string"}}}

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        return ToolOutput(content=invocation.arguments["data"].upper())

my_custom_handler = Process()
"""

SAVE_AND_RESUME = """
store = SessionStore()
agent = Agent(AgentConfig(system_prompt="You are a research assistant.", profile="developer"))

# First session
session = store.create_session(agent)
await session.run(prompt="Start analyzing the codebase.")
session_id = session.state.session_id

# Later: resume
session = store.resume(session_id, agent)
await session.run(prompt="Continue where we left off.")
print(store.get_latest_id() == session_id, session.state.run_count)
"""

OBSERVERS = """
class ToolAuditLog:
    def on_event(self, event: dict) -> None:
        if event.get("tool_calls"):
            for tc in event["tool_calls"]:
                print(f"[{event['ts']}] {tc['function']['name']}")

session = Session(Agent(AgentConfig(system_prompt="x", profile="developer")))
session.state.add_observer(ToolAuditLog())
await session.run(prompt="Look.")
"""

PARALLEL = """
async def analyze(task_prompt: str, work_dir: str) -> str:
    config = AgentConfig(
        system_prompt="You are an analyst.",
        profile="readonly",
        working_dir=work_dir,
    )
    session = Session(Agent(config))
    result = await session.run(prompt=task_prompt)
    return result.text

tasks = [
    asyncio.create_task(analyze("Check error rates.", "{work}/app1")),
    asyncio.create_task(analyze("Check latency metrics.", "{work}/app2")),
    asyncio.create_task(analyze("Check disk usage.", "{work}/app3")),
]
results = await asyncio.gather(*tasks)
for text in results:
    print(text)
"""

IMPORTS = "import asyncio\nfrom paddock import Agent, AgentConfig, Session, SessionStore\n"
PWD: dict[str, Any] = {"tool_calls": [{"name": "bash", "arguments": {"command": "pwd"}}]}


def wrapped(fragment: str, before: str = "") -> str:
    """The documentation shows the inside of a coroutine; this is a program of it."""
    body = textwrap.indent(fragment, "    ")
    return f"{IMPORTS}{before}\nasync def main():\n{body}\nasyncio.run(main())\n"


async def printed(program: str, script: Sequence[Any], paddock: Paddock) -> str:
    """What `program` prints; every warning is an error, and it may not print one."""
    async with ModelServer(script) as server:
        environment = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": server.api_key}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-W", "error", "-c", program),
            cwd=paddock.cwd,
            env=paddock.environment | environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await asyncio.wait_for(process.communicate(), PATIENCE)
    # Development mode also tells of a step that took 0.1 s, as on a busy machine many do.
    said = [line for line in errors.decode().splitlines() if not line.startswith("Executing <")]
    assert (process.returncode, said) == (0, [])
    return output.decode()


@pytest.mark.rows("S-8", "S-20")
async def test_basic_usage(paddock: Paddock, tmp_path: Path) -> None:
    work = tmp_path / "work"
    script = [PWD, {"expect": str(work), "text": "The disk was full."}]
    output = await printed(BASIC.replace("{work}", str(work)), script, paddock)
    assert output == "The disk was full.\n"
    assert work.is_dir(), "a working directory that was named is used in place"


@pytest.mark.rows("S-20")
async def test_multi_run_conversation(paddock: Paddock) -> None:
    script = [
        {"text": "users"},
        {"text": "id, name"},
        {"expect": "Find users who signed up", "text": "Ada"},
    ]
    assert await printed(wrapped(MULTI_RUN), script, paddock) == "users\nid, name\nAda\n"


@pytest.mark.rows("S-10")
async def test_custom_tools(paddock: Paddock) -> None:
    script = [
        {"tool_calls": [{"name": "process", "arguments": {"data": "abc"}}]},
        {"expect": "ABC", "text": "It is ABC."},
    ]
    assert await printed(wrapped(CUSTOM_TOOLS, HANDLER), script, paddock) == "It is ABC.\n"


@pytest.mark.rows("S-13", "S-33", "S-35")
async def test_save_and_resume(paddock: Paddock) -> None:
    script = [PWD, {"text": "Started."}, {"expect": "Continue where", "text": "Continued."}]
    assert await printed(wrapped(SAVE_AND_RESUME), script, paddock) == "True 2\n"
    (trace,) = (paddock.home / ".config" / "paddock" / "sessions").glob("*/trace.jsonl")
    state = State.from_jsonl(trace.read_bytes())
    assert state.get_user_messages() == [
        "Start analyzing the codebase.",
        "Continue where we left off.",
    ]


@pytest.mark.rows("S-15")
async def test_observers(paddock: Paddock) -> None:
    output = await printed(wrapped(OBSERVERS), [PWD, {"text": "Seen."}], paddock)
    assert output.endswith("] bash\n")


async def test_parallel_dispatch(paddock: Paddock, tmp_path: Path) -> None:
    program = wrapped(PARALLEL.replace("{work}", str(tmp_path)))
    script = [PWD, {"expect_regex": "app[123]", "text": "Fine."}]
    assert await printed(program, script, paddock) == "Fine.\n" * 3


@pytest.mark.rows("S-25")
async def test_a_service_that_refuses_is_an_error_told_once_with_its_status() -> None:
    faults = [Status(code=404, message="no such model")]
    async with ModelServer([{"text": "Never."}], faults=faults) as server:
        client = OpenAIModel(base_url=server.base_url, api_key=server.api_key)
        session = Session(Agent(AgentConfig(system_prompt="Help.")), client=client)
        result = await session.run(prompt="Go.")
        await client.aclose()
    assert [(event.type, event.content) for event in result.events] == [
        ("error", "API error 404 (after retries): no such model")
    ]


async def test_a_cancelled_command_leaves_no_process_and_a_history_that_goes_on(
    tmp_path: Path,
) -> None:
    mark = f"31{os.getpid()}.5"
    command = f"setsid sleep {mark} & echo > begun; sleep {mark}"
    script: list[dict[str, Any]] = [
        {
            "tool_calls": [
                {"name": "write", "arguments": {"path": "a.txt", "content": "kept"}},
                {"name": "bash", "arguments": {"command": command}},
            ]
        },
        {"text": "Going on."},
    ]
    config = AgentConfig(system_prompt="x", profile="developer", backend=LocalBackend())
    async with Session(
        Agent(config), client=ScriptedModel(script), session_dir=tmp_path
    ) as session:
        sandbox = await session.get_sandbox()
        await sandbox.exec("mkfifo begun", check=True)
        written = asyncio.Event()

        def show(event: AgentEvent) -> None:
            if (event.type, event.tool_name) == ("tool_end", "write"):
                written.set()

        run = asyncio.create_task(session.run(prompt="Go.", on_event=show))
        await sandbox.exec("read _ < begun", timeout=PATIENCE)
        await asyncio.wait_for(written.wait(), PATIENCE)
        async with asyncio.timeout(PATIENCE):
            while not _running(mark):  # noqa: ASYNC110 - it is begun by a shell that told so before
                await asyncio.sleep(0.01)
        await session.cancel()
        assert (await run).status == "cancelled"
        assert not _running(mark)
        assert (await session.run(prompt="Again.")).text == "Going on."
        assert await sandbox.fs.read_text("a.txt") == "kept"
    lines = (tmp_path / "trace.jsonl").read_text().splitlines()
    ends = [line for line in map(json.loads, lines) if line["type"] == "run_end"]
    assert [end["status"] for end in ends] == ["cancelled", "completed"]


def _running(mark: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"sleep\0" + mark.encode()):
                return True
        except OSError:
            continue
    return False
