"""What README and docs show is true: their commands run, as they stand there.

Models are scripts; one that is asked for by name is behind a real socket. What the commands take
for granted is made before: the files of a project, a session with the id that the page has,
sandboxes to remove.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from paddock import Agent, AgentConfig, ScriptedModel, SessionStore
from paddock.testing.model_server import ModelServer
from tests.e2e.conftest import Paddock
from tests.e2e.terminal import READY, Terminal
from tests.pages import Block, as_parameters, blocks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOT_RUN = {
    "make demo": "it installs what the project depends on; the demo itself has its own tests",
    "make test": "it runs these tests",
    "apt-get install": "it changes the machine",
    "docker save paddock:base | podman load": "it changes the machine; the tests' Podman does it",
    "mmdebstrap": "it changes the machine",
    "paddock image bootstrap": "it replaces an image of the machine; the tests use what it makes",
    "paddock image build": "it replaces an image of the machine, and takes a package index",
    "paddock image rm": "it removes an image of the machine",
    "paddock shell": "it needs a terminal; test_cli_terminals.py runs it on one",
    "paddock exec -it": "it needs a terminal; test_cli_terminals.py runs it on one",
    "paddock serve": "it serves until it is stopped; test_serve.py runs it",
    "ray start": "it starts a cluster; test_fleet_ray.py has one",
    "paddock map tasks.jsonl --out runs/a --ray": "it takes a cluster; test_fleet_ray.py has one",
    "paddock batch attach": "no sandbox is kept; docker/test_fleet_kept.py runs it",
    "paddock batch clean": "no sandbox is kept; docker/test_fleet_kept.py runs it",
    "tools/docker-in-vm": "it makes virtual machines, which takes half an hour",
    "tools/newer-docker": "it makes a system of another Debian, which takes minutes",
    "paddock approvals show": "nothing waits; test_cli_approvals.py runs it where something does",
    "paddock approvals answer": "nothing waits; test_cli_approvals.py runs it",
    "paddock approvals list --store": "there is no store; test_runtime_killed.py runs it",
    "export DAYTONA_API_KEY": "it takes an account",
    "PADDOCK_REQUIRE=daytona pytest": "it runs these tests",
}
"""How the commands begin that no test runs, and why."""

FILES = {
    "agent.yaml": "profile: developer\n",
    "answers.yaml": "- text: I looked.\n" * 9,
    "review.md": (
        "---\nvariables:\n  language: {required: true}\ninitial_prompt: Review it.\n---\n"
        "You review {{ language }} for {{ team }}.\n"
    ),
    "team.yaml": "team: storage\nlanguage: C\n",
    "solve.py": "import sys\n\nprint(2 * int(sys.argv[1]))\n",
    "tasks.jsonl": '{"input": 1, "prompt": "Look."}\n{"input": 2, "prompt": "Look."}\n',
    "task.txt": "Which tests fail, and why?\n",
    "shop.py": "from paddock import mcp\n\nruntime = mcp.create_mcp_runtime(agent='clerk')\n",
    "src/one.txt": "one\n",
    "test_sums.py": (
        "import unittest\n\n\nclass Sums(unittest.TestCase):\n"
        "    def test_one(self):\n        self.assertEqual(1 + 1, 2)\n"
    ),
    "sessions/none": "",
}
"""What there is in the directory of the commands."""

SHOWN = "3f2a"
"""How the id of a session or of a sandbox begins on the pages."""
SHOWN_TOO = "9c"
"""How that of another sandbox does."""
SESSION = f"{SHOWN}6b1c"

LEAVER = """
import asyncio, os, signal
from paddock import LocalBackend

async def main():
    backend = LocalBackend(isolation="none")
    async with backend.sandbox() as first, backend.sandbox() as second:
        print(first.id, second.id, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
FOREVER = {"tool_calls": [{"name": "bash", "arguments": {"command": "sleep 600"}}]}
PATIENCE = 60


@dataclass(frozen=True)
class Shell(Paddock):
    """Runs scripts as one types them, in a project; `variables` lead to what is served."""

    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**super().environment, "PATH": path, **self.variables}

    @staticmethod
    def command(*args: str) -> list[str]:
        return ["bash", "-euxo", "pipefail", "-c", *args]

    @property
    def store(self) -> SessionStore:
        return SessionStore(self.home / ".config" / "paddock" / "sessions")


def commands(block: Block) -> list[str]:
    """Those of the block that are run."""
    lines = block.text.replace("\\\n", "").splitlines()
    return [line for line in lines if not line.startswith(tuple(NOT_RUN))]


def scripts() -> list[Block]:
    """The blocks of which something is run."""
    return [block for block in blocks("sh") if commands(block)]


@pytest.fixture
async def shell(paddock: Paddock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shell]:
    """With models that answer, and no engine; local sandboxes are its own."""
    for name, content in FILES.items():
        path = paddock.cwd / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    place = paddock.home.parent / "tmp"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    async with ModelServer([{"text": "I looked."}] * 9) as server:
        variables = {
            "OPENAI_MODEL": f"scripted:{paddock.cwd / 'answers.yaml'}",
            "OPENAI_BASE_URL": server.base_url,
            "OPENAI_API_KEY": server.api_key,
            "NPM_TOKEN": "a-token-of-ours",
            "DOCKER_HOST": "unix:///nowhere/docker.sock",
        }
        yield Shell(paddock.home, paddock.cwd, variables)


async def run(shell: Shell, script: str) -> None:
    done = await asyncio.to_thread(shell, script)
    assert done.returncode == 0, done.stdout + done.stderr


async def with_a_kept_session(shell: Shell, script: str) -> None:
    """There is one session, that of the page."""
    agent = Agent(AgentConfig(system_prompt="x", model=shell.variables["OPENAI_MODEL"]))
    async with shell.store.create_session(agent, session_id=SESSION) as session:
        await session.run("Begin.")
    await run(shell, script)


async def in_a_terminal(shell: Shell, script: str) -> None:
    """Every command begins a conversation, which is left at once."""

    def converse() -> None:
        with Terminal(shell, script) as terminal:
            for _ in script.splitlines():
                terminal.wait_for("/help tells")
                terminal.wait_for(READY)
                terminal.type("exit\r")
            assert terminal.end() == 0, terminal.seen

    await with_a_kept_session(shell, "true")
    await asyncio.to_thread(converse)


async def beside_a_running_session(shell: Shell, script: str) -> None:
    """It is the session of the page, and a command of it runs."""
    agent = Agent(AgentConfig(system_prompt="x", profile="unrestricted"))
    model = ScriptedModel([FOREVER])
    async with (
        shell.store.create_session(agent, session_id=SESSION, client=model) as session,
        session.stream("Begin.") as events,
    ):
        while (await anext(events)).type != "tool_start":
            pass
        await run(shell, script)
        if "paddock cancel" in script:
            async with asyncio.timeout(PATIENCE):
                [_ async for _ in events]
            assert events.result.status == "cancelled"


async def beside_sandboxes(shell: Shell, script: str) -> None:
    """Two of this machine, which a process left that is gone."""
    made = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", LEAVER],
        env=shell.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    for shown, sandbox in zip((SHOWN, SHOWN_TOO), made.stdout.split(), strict=True):
        script = re.sub(rf"\b{shown}\b", sandbox, script)
    await run(shell, script)


@pytest.mark.parametrize("block", as_parameters(scripts()))
async def test_the_commands_in_the_docs_run(
    block: Block, shell: Shell, request: pytest.FixtureRequest
) -> None:
    script = "\n".join(commands(block))
    if re.search(r"^paddock$", script, re.MULTILINE):
        await in_a_terminal(shell, script)
    elif re.search(rf"(cancel|directive) {SHOWN}", script):
        await beside_a_running_session(shell, script)
    elif "paddock rm" in script:
        await beside_sandboxes(shell, script)
    elif "paddock image" in script:
        request.getfixturevalue("base_image")
        del shell.variables["DOCKER_HOST"]
        await run(shell, script)
    else:
        await with_a_kept_session(shell, script)


def test_what_is_not_run_is_on_a_page() -> None:
    lines = [line for block in blocks("sh") for line in block.text.splitlines()]
    for beginning in NOT_RUN:
        assert any(line.startswith(beginning) for line in lines), beginning
