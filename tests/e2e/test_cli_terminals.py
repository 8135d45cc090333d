"""``paddock shell`` and ``paddock exec -it``, on a terminal: of a sandbox that has all rights."""

from __future__ import annotations

import shlex
import signal
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from paddock import DockerBackend, LocalBackend, Pty
from tests.screens import terminal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from paddock.sandbox import Sandbox
    from tests.e2e.conftest import Paddock
    from tests.screens import Terminal

COMPARED = 'stty -g >before; {}; echo "code $?"; stty -g >after; cmp before after && echo restored'
"""A command of the test's shell, and whether the terminal is then as it was."""


@pytest_asyncio.fixture
async def person(tmp_path: Path, paddock: Paddock) -> AsyncIterator[Sandbox]:
    """Where somebody sits and types: this machine."""
    environment = paddock.environment | {"PADDOCK_ISOLATION": "none"}
    here = LocalBackend(isolation="none", working_dir=str(tmp_path), env_vars=environment)
    async with here.sandbox() as sandbox:
        yield sandbox


def _at(paddock: Paddock, *args: str) -> str:
    return shlex.join(paddock.command(*args))


async def _prompt(tty: Terminal) -> None:
    """Wait until a shell of the inner sandbox answers."""
    await tty.type("echo in''side\r")
    await tty.until("\ninside")


async def test_a_shell_has_the_size_the_keys_and_the_exit_code(
    person: Sandbox, paddock: Paddock
) -> None:
    command = COMPARED.format(_at(paddock, "shell", "--no-project"))
    async with terminal(person, command, Pty(rows=20, cols=70)) as tty:
        await _prompt(tty)
        await tty.type("stty size\r")
        await tty.until("\n20 70")
        await tty.resize(30, 100)
        await tty.type("until stty size | grep '30 1[0]0'; do :; done\r")
        await tty.until("\n30 100")
        await tty.type("sh -c \"echo asl''eep; exec sleep 1000\"\r")  # in the foreground by then
        await tty.until("\nasleep")
        await tty.type("\x03")
        await tty.type("exit 7\r")
        await tty.until("restored")
        assert "code 7" in tty.text


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_the_terminal_is_restored_when_paddock_is_stopped(
    person: Sandbox, paddock: Paddock, number: signal.Signals
) -> None:
    shell = _at(paddock, "shell", "--no-project")
    waiting = "until stty -g | cmp -s - before; do :; done; echo; echo as be''fore"
    command = f"stty -g >before; {shell}; {waiting}"
    async with terminal(person, ["bash", "-c", command]) as tty:
        await _prompt(tty)
        found = await person.exec(["pgrep", "-n", "-f", "paddoc[k] shell"], check=True)
        await person.exec(["kill", f"-{int(number)}", *found.stdout.split()], check=True)
        await tty.until("as before")


async def test_a_program_of_exec_has_this_terminal(person: Sandbox, paddock: Paddock) -> None:
    command = COMPARED.format(_at(paddock, "exec", "--no-project", "-it", "--", "python3", "-q"))
    async with terminal(person, command) as tty:
        await tty.until(">>> ")
        await tty.type("6 * 7\r")
        await tty.until("\n42")
        await tty.type("raise SystemExit(5)\r")
        await tty.until("restored")
        assert "code 5" in tty.text


async def test_a_program_that_takes_too_long_gives_the_terminal_back(
    person: Sandbox, paddock: Paddock
) -> None:
    argv = ("exec", "--no-project", "-it", "--timeout", "0.5", "--", "sleep", "1000")
    async with terminal(person, COMPARED.format(_at(paddock, *argv))) as tty:
        await tty.until("restored")
        assert "paddock: killed after 0.5 s" in tty.text
        assert "code 124" in tty.text


def test_without_a_terminal_there_is_none_to_pass_on(paddock: Paddock) -> None:
    for argv in (["shell"], ["exec", "-it", "--", "true"]):
        done = paddock(*argv)
        assert done.returncode == 2
        assert "needs a terminal on stdin and stdout" in done.stderr


async def test_a_sandbox_that_is_there_is_joined_and_stays(
    person: Sandbox, paddock: Paddock, base_image: str
) -> None:
    async with DockerBackend(network="none").sandbox() as there:
        kept = await there.start("sleep 1000")
        command = COMPARED.format(_at(paddock, "shell", there.id))
        async with terminal(person, command) as tty:
            await _prompt(tty)
            await tty.type("echo kept >file; exit 3\r")
            await tty.until("restored")
            assert "code 3" in tty.text
        assert await there.fs.read_text("file") == "kept\n"
        assert (await there.exec("pgrep -f 'slee[p] 1000'")).ok
        await kept.kill()
        async with terminal(person, _at(paddock, "shell", "--image", "x", there.id)) as tty:
            await tty.until("this sandbox is there already")
            assert (await tty.process.wait()).exit_code == 2


async def test_a_local_sandbox_is_its_makers_alone(person: Sandbox, paddock: Paddock) -> None:
    async with (
        LocalBackend(isolation="none").sandbox() as there,
        terminal(person, _at(paddock, "shell", there.id)) as tty,
    ):
        await tty.until("the local backend does not support attach()")
        assert (await tty.process.wait()).exit_code == 1
