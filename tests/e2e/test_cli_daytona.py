"""Daytona from the shell and from a program, as its users have it: a key in the environment."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from paddock.testing.daytona.toolbox.shells import SEARCH_PATH
from paddock.testing.model_server import ModelServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import Require
    from tests.daytona_account import DaytonaAccount
    from tests.e2e.conftest import Paddock

PATIENCE = 60
SAMPLE = """
import asyncio
from paddock import Agent, AgentConfig, Session

async def main():
    async with Session(Agent(AgentConfig(backend="daytona", profile="developer"))) as session:
        result = await session.run(prompt="Check the deployment status.")
        print(result.text)
    # sandbox deleted automatically

asyncio.run(main())
"""
CALL: dict[str, Any] = {
    "tool_calls": [{"name": "bash", "arguments": {"command": "echo deployed-$((40 + 2))"}}]
}


@dataclass(frozen=True)
class Account:
    """A Daytona, and the command that uses it."""

    there: DaytonaAccount
    paddock: Paddock

    @property
    def environment(self) -> dict[str, str]:
        return dict(self.there.variables)

    def __call__(self, *args: str, **env: str) -> tuple[int, str, str]:
        done = self.paddock(*args, env=self.environment | env)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
async def account(
    daytona_account: DaytonaAccount, paddock: Paddock, require: Require
) -> AsyncIterator[Account]:
    """Nothing of the test may be left on it."""
    if daytona_account.ours:  # commands run here, with the search path that sandboxes have there
        found = shutil.which("python3", path=SEARCH_PATH)
        require("python3", found, f"there is none on {SEARCH_PATH}")
    yield Account(daytona_account, paddock)
    await daytona_account.require_empty()


def test_the_demo_works_there(account: Account) -> None:
    code, out, err = account("demo", "--backend", "daytona", "-n", "3")
    assert code == 0, out + err
    assert "they pass now" in out
    assert "gone, with every process in it" in out
    assert out.count("✓ pass") == 3


async def test_snapshots_of_sandboxes_are_listed_and_removed(account: Account) -> None:
    name = f"paddock-test-{secrets.token_hex(6)}"
    async with account.there.recipe.sandbox() as sandbox:
        await sandbox.snapshot(name)
        code, out, err = await asyncio.to_thread(
            account, "image", "list", "--backend", "daytona", "--json"
        )
        assert code == 0, err
        assert {each["label"] for each in json.loads(out) if each["reference"] == name} == {
            sandbox.id
        }
    arguments = ("image", "rm", "--backend", "daytona", name)
    assert await asyncio.to_thread(account, *arguments) == (0, f"{name}\n", "")
    code, out, err = await asyncio.to_thread(account, *arguments)
    assert (code, out) == (1, "")
    assert f"{name}: no snapshot of a sandbox has this name" in err


async def test_the_documented_program_works_there(account: Account) -> None:
    script = [CALL, {"expect": "deployed-42", "text": "It is deployed."}]
    async with ModelServer(script) as model:
        environment = {"OPENAI_BASE_URL": model.base_url, "OPENAI_API_KEY": model.api_key}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-W", "error", "-c", SAMPLE),
            cwd=account.paddock.cwd,
            env=account.paddock.environment | environment | account.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await asyncio.wait_for(process.communicate(), PATIENCE)
    said = [line for line in errors.decode().splitlines() if not line.startswith("Executing <")]
    assert (process.returncode, said) == (0, [])
    assert output == b"It is deployed.\n"


def test_commands_and_files_go_there(account: Account) -> None:
    (account.paddock.cwd / "in.txt").write_text("from here")
    code, out, err = account(
        *("exec", "--backend", "daytona", "--upload", "in.txt:in.txt", "--env", "A=1"),
        *("--setup", "echo set up > log", "--", "sh", "-c", "cat in.txt log; echo $A >&2; exit 3"),
    )
    assert (code, out) == (3, "from hereset up\n")
    assert err.endswith("1\n")


def test_what_a_killed_maker_left_is_listed_and_collected(account: Account) -> None:
    command = ("exec", "--backend", "daytona", "--", "sh", "-c", "echo up; sleep 3600")
    with account.paddock.start(*command, env=account.environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGKILL)
    (left,) = [
        each["id"]
        for each in json.loads(account("ls", "--backend", "daytona", "--json")[1])
        if each["owner"] == "gone"
    ]
    assert account("gc", "--backend", "daytona")[1] == f"{left}\n"


def test_an_interrupt_ends_a_command_in_order(account: Account) -> None:
    command = ("exec", "--backend", "daytona", "--", "sh", "-c", "echo up; sleep 3600")
    with account.paddock.start(*command, env=account.environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 128 + signal.SIGINT
        told = process.stderr.read()
    assert "SIGINT; cleaning up" in told
    assert "Traceback" not in told


def test_a_key_that_is_missing_or_wrong_is_named(paddock: Paddock, account: Account) -> None:
    missing = paddock("exec", "--backend", "daytona", "--", "true")
    assert missing.returncode != 0
    assert "DAYTONA_API_KEY" in missing.stderr
    code, _, err = account("exec", "--backend", "daytona", "--", "true", DAYTONA_API_KEY="wrong")
    assert code != 0
    assert "DAYTONA_API_KEY" in err
    assert "Traceback" not in missing.stderr + err


@pytest.mark.rows("S-60")
def test_without_the_sdk_the_extra_is_named(paddock: Paddock) -> None:
    (paddock.cwd / "daytona.py").write_text("raise ImportError('not here')\n")
    done = paddock(
        *("exec", "--backend", "daytona", "--", "true"),
        env={"PYTHONPATH": str(paddock.cwd), "DAYTONA_API_KEY": "x"},
    )
    assert done.returncode != 0
    assert "pip install 'paddock[daytona]'" in done.stderr
    assert "Traceback" not in done.stderr
