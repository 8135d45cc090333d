"""The programs of two documents, as they are there: only their import line is this package's.

The documents are in ``tests/documents``, with their whitespace mended and nothing else. A
program is cut out by its first and last line. What the documents take for granted (a tool
of the reader's own, a list of tasks) is put before it, and directories that are theirs
(``/tmp/work``) are a test's. The model is a script behind a real socket, Daytona a server of
ours behind another.
"""

from __future__ import annotations

import asyncio
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock import Agent, AgentConfig, ScriptedModel, SessionStore
from paddock.testing.model_server import ModelServer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.daytona_account import DaytonaAccount
    from tests.e2e.conftest import Paddock

DOCUMENTS = Path(__file__).parent.parent / "documents"
PATIENCE = 50
SDK, API = "python-sdk.txt", "runtime-api.txt"
BASH: dict[str, Any] = {"tool_calls": [{"name": "bash", "arguments": {"command": "pwd"}}]}
COMMON = """
import asyncio
from paddock import Agent, AgentConfig, RuntimeOptions, Session, SessionInfo, SessionStore
from paddock import close_runtime, create_runtime
"""


def cut(document: str, first: str, last: str, *, number: int = 0) -> str:
    """The program from the `number`th line that begins with `first` on to one with `last`."""
    lines = (DOCUMENTS / document).read_text().splitlines()
    begin = [at for at, line in enumerate(lines) if line.startswith(first)][number]
    end = next(at for at in range(begin, len(lines)) if lines[at].startswith(last))
    program = "\n".join(lines[begin : end + 1])
    return re.sub(
        r"^(\s*)from rho_agent import", r"\1from paddock import", program, flags=re.MULTILINE
    )


def wrapped(fragment: str, before: str = "", after: str = "") -> str:
    """The inside of a coroutine as a program."""
    body = textwrap.indent(f"{before}\n{fragment}\n{after}", "    ")
    return f"{COMMON}\nasync def main():\n{body}\nasyncio.run(main())\n"


async def printed(
    program: str, script: Sequence[Any], paddock: Paddock, env: Mapping[str, str] | None = None
) -> str:
    """What `program` prints; it may not complain."""
    work = paddock.cwd / "work"
    for place in ("/tmp/work", "/custom", "/var/log"):
        program = program.replace(place, str(work))
    async with ModelServer(script) as server:
        environment = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": server.api_key}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-c", program),
            cwd=paddock.cwd,
            env=paddock.environment | environment | dict(env or {}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert (process.returncode, errors.decode()) == (0, ""), program
    return output.decode()


# ------------------------------------------------------------------------ python-sdk.txt


async def test_sdk_basic_usage(paddock: Paddock) -> None:
    program = cut(SDK, "import asyncio", "asyncio.run(main())")
    assert await printed(program, [BASH, {"text": "The disk was full."}], paddock) == (
        "The disk was full.\n"
    )


async def test_sdk_loading_and_saving(paddock: Paddock) -> None:
    (paddock.cwd / "my-agent.yaml").write_text("system_prompt: Hello.\nmodel: m\nteam: a\n")
    program = cut(SDK, "# Load from a YAML file", "resolved = config.resolve_system_prompt()")
    output = await printed(
        wrapped(program, after="print(resolved, config.model, config.extras)"), [], paddock
    )
    assert output == "Hello. m {'team': 'a'}\n"


async def test_sdk_agent(paddock: Paddock) -> None:
    program = cut(SDK, "agent = Agent(config)", "client = agent.create_client()", number=1)
    before = "config = AgentConfig(system_prompt='x')"
    after = "print(agent.system_prompt, type(client).__name__); await client.aclose()"
    assert await printed(wrapped(program, before, after), [], paddock) == "x OpenAIModel\n"


TOOL = """
from paddock import ToolHandler, ToolInvocation, ToolOutput
class Own(ToolHandler):
    name = "own"
    description = "The reader's."
    parameters = {"type": "object", "properties": {}}
    async def handle(self, invocation):
        return ToolOutput("made by hand")
my_custom_handler = Own()
"""
OWN: dict[str, Any] = {"tool_calls": [{"name": "own", "arguments": {}}]}


async def test_sdk_customizing_tools(paddock: Paddock) -> None:
    program = cut(SDK, "agent = Agent(config)", "session = Session(agent)", number=2)
    before = TOOL + "config = AgentConfig(system_prompt='x')\n"
    after = "print((await session.run(prompt='Go.')).text)"
    script = [OWN, {"expect": "made by hand", "text": "Done."}]
    assert await printed(wrapped(program, before, after), script, paddock) == "Done.\n"


async def test_sdk_state(paddock: Paddock) -> None:
    program = cut(
        SDK,
        "state = session.state",
        "state.get_user_messages()",
    )
    before = (
        "session = Session(Agent(AgentConfig(system_prompt='x')))\nawait session.run(prompt='Go.')"
    )
    after = "print(state.status, state.run_count, state.messages[0], state.usage['cost_usd'] > 0)"
    used = {"input_tokens": 1000, "output_tokens": 1000}
    script = [{"text": "Yes.", "usage": used}]
    output = await printed(wrapped(program, before, after), script, paddock)
    assert output == "completed 1 {'role': 'user', 'content': 'Go.'} True\n"


async def test_sdk_loading_a_past_sessions_state(paddock: Paddock) -> None:
    directory = paddock.home / ".config" / "rho-agent" / "sessions"
    agent = Agent(AgentConfig(system_prompt="x", profile="developer"))
    session = SessionStore(directory).create_session(agent, session_id="abc123")
    session._given_client = ScriptedModel([BASH, {"text": "Done."}])
    async with session:
        await session.run(prompt="Go.")
    program = cut(SDK, "from pathlib import Path", "        print(f\"  {tc['function']['name']}\")")
    assert await printed(program, [], paddock) == "Runs: 1, Cost: $0.0000\n  bash\n"


async def test_sdk_observing(paddock: Paddock) -> None:
    program = cut(SDK, "class ToolAuditLog:", "session.state.add_observer(ToolAuditLog())")
    before = "session = Session(Agent(AgentConfig(system_prompt='x', profile='developer')))"
    after = "await session.run(prompt='Go.')\nawait session.close()"
    output = await printed(wrapped(program, before, after), [BASH, {"text": "x"}], paddock)
    assert re.fullmatch(r"\[\d{4}-\d\d-\d\dT.*\] bash\n", output)


async def test_sdk_session(paddock: Paddock) -> None:
    attributes = cut(
        SDK,
        "session.approval_callback =",
        "session.context_window =",
    )
    methods = cut(SDK, "# Run a prompt to completion", "sandbox = await session.get_sandbox()")
    before = (
        "async def my_callback(name, arguments): return True\n"
        "session = Session(Agent(AgentConfig(system_prompt='x', profile='developer')))"
    )
    after = (
        "print(result.text, compact_result.summary, (await sandbox.exec('echo in')).stdout)\n"
        "await session.close()"
    )
    script = [{"text": "Looked."}, {"text": "In short."}]
    output = await printed(wrapped(f"{attributes}\n{methods}", before, after), script, paddock)
    assert output == "Looked. In short. in\n\n"


async def test_sdk_async_context_manager(paddock: Paddock, daytona_account: DaytonaAccount) -> None:
    program = cut(
        SDK,
        'async with Session(Agent(AgentConfig(backend="daytona"',
        "# sandbox deleted automatically",
    )
    script = [BASH, {"expect": "/home/daytona", "text": "Deployed."}]
    environment = dict(daytona_account.variables)
    assert await printed(wrapped(program), script, paddock, environment) == "Deployed.\n"
    await daytona_account.require_empty()


async def test_sdk_session_store(paddock: Paddock) -> None:
    program = cut(
        SDK,
        "store = SessionStore()  ",
        "latest_id = store.get_latest_id()",
    )
    before = "agent = Agent(AgentConfig(system_prompt='x'))\nsession_id = 'mine'\n"
    before += f"SessionStore({str(paddock.cwd / 'work' / 'sessions' / 'dir')!r})"
    before += ".create_session(agent, session_id=session_id)"
    after = "print(len(infos), latest_id in {info.id for info in infos})"
    assert await printed(wrapped(program, before, after), [], paddock) == "2 True\n"


async def test_sdk_multi_run_conversation(paddock: Paddock) -> None:
    program = cut(
        SDK,
        'agent = Agent(AgentConfig(system_prompt="You are a database',
        "print(r3.text)",
    )
    script = [{"text": "users"}, {"text": "id"}, {"expect": "signed up", "text": "Ada"}]
    assert await printed(wrapped(program), script, paddock) == "users\nid\nAda\n"


async def test_sdk_parallel_dispatch(paddock: Paddock) -> None:
    program = cut(SDK, "import asyncio", "asyncio.run(main())", number=1)
    script = [{"text": "All is well."}]
    assert await printed(program, script, paddock) == "All is well.\n" * 3


async def test_sdk_custom_tools(paddock: Paddock) -> None:
    program = cut(
        SDK,
        "from rho_agent import Agent, AgentConfig, Session",
        'result = await session.run(prompt="Use my custom tool to process the data.")',
        number=2,
    )
    script = [OWN, {"expect": "made by hand", "text": "Done."}]
    after = "print(result.text)"
    assert await printed(wrapped(program, TOOL, after), script, paddock) == "Done.\n"


async def test_sdk_save_and_resume(paddock: Paddock) -> None:
    program = cut(
        SDK,
        "from rho_agent import Agent, AgentConfig, SessionStore",
        'await session.run(prompt="Continue where we left off.")',
    )
    after = "print(session.state.run_count, session.state.session_id == session_id)"
    script = [{"text": "Begun."}, {"expect": "left off", "text": "Done."}]
    assert await printed(wrapped(program, after=after), script, paddock) == "2 True\n"


# ----------------------------------------------------------------------- runtime-api.txt

RUNTIME = "runtime = create_runtime('x', options=RuntimeOptions(profile='developer'))"


async def test_api_basic_usage(paddock: Paddock) -> None:
    program = cut(API, "import asyncio", "asyncio.run(main())")
    script = [BASH, {"text": "The disk was full."}]
    assert await printed(program, script, paddock) == "The disk was full.\n"


async def test_api_dispatch(paddock: Paddock) -> None:
    program = cut(
        API,
        "from rho_agent import CancellationToken, dispatch_prompt",
        'handle.cancel("timeout exceeded")',
    )
    after = "print(result.text, handle.status, handle.done())\nawait close_runtime(runtime)"
    script = [{"text": "All is well."}]
    output = await printed(wrapped(program, RUNTIME, after), script, paddock)
    assert output == "All is well. completed True\n"


async def test_api_reconfigure(paddock: Paddock) -> None:
    program = cut(
        API,
        "from rho_agent import reconfigure_runtime",
        'new_profile = reconfigure_runtime(runtime, profile="readonly")',
    )
    after = "print(new_profile.name, 'edit' in runtime.registry)"
    assert await printed(wrapped(program, RUNTIME, after), [], paddock) == "readonly False\n"


async def test_api_parallel_dispatch(paddock: Paddock) -> None:
    program = cut(API, "from rho_agent import (", "    await close_runtime(rt, result.status)")
    before = (
        "from types import SimpleNamespace as Task\n"
        "tasks = [Task(working_dir='/tmp/work/%d' % n, prompt='Go %d.' % n) for n in range(3)]"
    )
    after = "print([result.text for result in results])"
    script = [{"text": "Done."}]
    output = await printed(wrapped(program, before, after), script, paddock)
    assert output == "['Done.', 'Done.', 'Done.']\n"


@pytest.mark.parametrize("document", [SDK, API])
def test_no_import_of_a_document_is_left_out(document: str) -> None:
    """Every name that the documents import is there to be imported."""
    import paddock

    text = (DOCUMENTS / document).read_text()
    for names in re.findall(r"from rho_agent import \(?([\w,\s]+?)(?:\)|\n[^ ])", text):
        for name in re.findall(r"\w+", names):
            assert hasattr(paddock, name), name
