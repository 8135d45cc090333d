"""The programs of the SDK's document; see `programs`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import paddock as package
from paddock import Agent, AgentConfig, ScriptedModel, SessionStore
from tests.e2e.documents.programs import BASH, cut, names_imported, printed, wrapped

if TYPE_CHECKING:
    from tests.daytona_account import DaytonaAccount
    from tests.e2e.conftest import Paddock

DOCUMENT = "python-sdk.txt"


async def test_basic_usage(paddock: Paddock) -> None:
    program = cut(DOCUMENT, "import asyncio", "asyncio.run(main())")
    assert await printed(program, [BASH, {"text": "The disk was full."}], paddock) == (
        "The disk was full.\n"
    )


async def test_loading_and_saving(paddock: Paddock) -> None:
    (paddock.cwd / "my-agent.yaml").write_text("system_prompt: Hello.\nmodel: m\nteam: a\n")
    program = cut(DOCUMENT, "# Load from a YAML file", "resolved = config.resolve_system_prompt()")
    output = await printed(
        wrapped(program, after="print(resolved, config.model, config.extras)"), [], paddock
    )
    assert output == "Hello. m {'team': 'a'}\n"


async def test_agent(paddock: Paddock) -> None:
    program = cut(DOCUMENT, "agent = Agent(config)", "client = agent.create_client()", number=1)
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


async def test_customizing_tools(paddock: Paddock) -> None:
    program = cut(DOCUMENT, "agent = Agent(config)", "session = Session(agent)", number=2)
    before = TOOL + "config = AgentConfig(system_prompt='x')\n"
    after = "print((await session.run(prompt='Go.')).text)"
    script = [OWN, {"expect": "made by hand", "text": "Done."}]
    assert await printed(wrapped(program, before, after), script, paddock) == "Done.\n"


async def test_state(paddock: Paddock) -> None:
    program = cut(
        DOCUMENT,
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


async def test_loading_a_past_sessions_state(paddock: Paddock) -> None:
    directory = paddock.home / ".config" / "rho-agent" / "sessions"
    agent = Agent(AgentConfig(system_prompt="x", profile="developer"))
    session = SessionStore(directory).create_session(agent, session_id="abc123")
    session._resources.given_client = ScriptedModel([BASH, {"text": "Done."}])
    async with session:
        await session.run(prompt="Go.")
    program = cut(
        DOCUMENT, "from pathlib import Path", "        print(f\"  {tc['function']['name']}\")"
    )
    assert await printed(program, [], paddock) == "Runs: 1, Cost: $0.0000\n  bash\n"


async def test_observing(paddock: Paddock) -> None:
    program = cut(DOCUMENT, "class ToolAuditLog:", "session.state.add_observer(ToolAuditLog())")
    before = "session = Session(Agent(AgentConfig(system_prompt='x', profile='developer')))"
    after = "await session.run(prompt='Go.')\nawait session.close()"
    output = await printed(wrapped(program, before, after), [BASH, {"text": "x"}], paddock)
    assert re.fullmatch(r"\[\d{4}-\d\d-\d\dT.*\] bash\n", output)


async def test_session(paddock: Paddock) -> None:
    attributes = cut(
        DOCUMENT,
        "session.approval_callback =",
        "session.context_window =",
    )
    methods = cut(DOCUMENT, "# Run a prompt to completion", "sandbox = await session.get_sandbox()")
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


async def test_async_context_manager(paddock: Paddock, daytona_account: DaytonaAccount) -> None:
    program = cut(
        DOCUMENT,
        'async with Session(Agent(AgentConfig(backend="daytona"',
        "# sandbox deleted automatically",
    )
    script = [BASH, {"expect": "/home/daytona", "text": "Deployed."}]
    environment = dict(daytona_account.variables)
    assert await printed(wrapped(program), script, paddock, environment) == "Deployed.\n"
    await daytona_account.require_empty()


async def test_session_store(paddock: Paddock) -> None:
    program = cut(
        DOCUMENT,
        "store = SessionStore()  ",
        "latest_id = store.get_latest_id()",
    )
    before = "agent = Agent(AgentConfig(system_prompt='x'))\nsession_id = 'mine'\n"
    before += f"SessionStore({str(paddock.cwd / 'work' / 'sessions' / 'dir')!r})"
    before += ".create_session(agent, session_id=session_id)"
    after = "print(len(infos), latest_id in {info.id for info in infos})"
    assert await printed(wrapped(program, before, after), [], paddock) == "2 True\n"


async def test_multi_run_conversation(paddock: Paddock) -> None:
    program = cut(
        DOCUMENT,
        'agent = Agent(AgentConfig(system_prompt="You are a database',
        "print(r3.text)",
    )
    script = [{"text": "users"}, {"text": "id"}, {"expect": "signed up", "text": "Ada"}]
    assert await printed(wrapped(program), script, paddock) == "users\nid\nAda\n"


async def test_parallel_dispatch(paddock: Paddock) -> None:
    program = cut(DOCUMENT, "import asyncio", "asyncio.run(main())", number=1)
    script = [{"text": "All is well."}]
    assert await printed(program, script, paddock) == "All is well.\n" * 3


async def test_custom_tools(paddock: Paddock) -> None:
    program = cut(
        DOCUMENT,
        "from rho_agent import Agent, AgentConfig, Session",
        'result = await session.run(prompt="Use my custom tool to process the data.")',
        number=2,
    )
    script = [OWN, {"expect": "made by hand", "text": "Done."}]
    after = "print(result.text)"
    assert await printed(wrapped(program, TOOL, after), script, paddock) == "Done.\n"


async def test_save_and_resume(paddock: Paddock) -> None:
    program = cut(
        DOCUMENT,
        "from rho_agent import Agent, AgentConfig, SessionStore",
        'await session.run(prompt="Continue where we left off.")',
    )
    after = "print(session.state.run_count, session.state.session_id == session_id)"
    script = [{"text": "Begun."}, {"expect": "left off", "text": "Done."}]
    assert await printed(wrapped(program, after=after), script, paddock) == "2 True\n"


def test_every_name_that_it_imports_is_there() -> None:
    for name in names_imported(DOCUMENT):
        assert hasattr(package, name), name
