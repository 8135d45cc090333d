"""What sandboxes of a backend that can only start programs promise beyond the contract.

The example over ssh shows it, with a shell of this machine as the other machine.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from examples.via_backend import ViaBackend, ViaSandbox
from paddock import (
    Backend,
    Capability,
    CommandLost,
    ExecTimeout,
    SandboxClosed,
    SandboxLost,
    ShellSandbox,
    Unsupported,
)
from paddock.backends.posix import sandbox as shell_sandbox
from tests.e2e.processes import processes_with, wait_until_gone, wait_until_there

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock import ProgressCallback, Sandbox
    from tests.conftest import Require

ROOT = Path(__file__).parents[2]
VIA = ("env", "-i", f"PATH={os.defpath}", "HOME=/tmp", "sh", "-c")
RECIPE = ViaBackend(via=VIA)


def _is_gone(folder: str) -> bool:
    return not os.path.lexists(folder)


def _control_shell(sandbox: Sandbox) -> int:
    assert isinstance(sandbox, ViaSandbox)
    (process,) = processes_with(f"\0{sandbox._prefix}\0")
    return process


async def test_a_secret_is_on_no_command_line() -> None:
    recipe = ViaBackend(via=VIA, secrets={"TOKEN": "s3cret-of-the-shell"})
    async with (
        recipe.sandbox() as sandbox,
        await sandbox.start("echo $TOKEN; exec sleep 984001") as process,
    ):
        assert await anext(aiter(process.output())) == ("stdout", b"s3cret-of-the-shell\n")
        assert processes_with("984001")
        assert not processes_with("s3cret-of-the-shell")


async def test_closing_ends_what_runs_and_what_was_left_and_removes_the_directory() -> None:
    async with RECIPE.sandbox() as sandbox:
        folder = str(sandbox.working_dir)
        assert (await sandbox.fs.stat(folder)).kind == "directory"
        left = await sandbox.exec("setsid sleep 984002 >/dev/null 2>&1 &")
        assert left.background
        running = asyncio.create_task(sandbox.exec("sleep 984002 & touch there; sleep 984002"))
        while not await sandbox.fs.exists("there"):
            pass
        await sandbox.aclose()
        with pytest.raises(SandboxClosed):
            await running
        assert not processes_with("sleep\x00984002")
        assert _is_gone(folder)


async def test_a_sandbox_whose_control_shell_is_killed_is_lost_and_leaves_nothing() -> None:
    async with RECIPE.sandbox() as sandbox:
        folder = str(sandbox.working_dir)
        running = asyncio.create_task(sandbox.exec("setsid sleep 984003 & touch x; sleep 984003"))
        while not await sandbox.fs.exists("x"):
            pass
        os.kill(_control_shell(sandbox), signal.SIGKILL)
        with pytest.raises(SandboxLost, match="control shell ended"):
            await running
        with pytest.raises(SandboxLost, match="control shell ended"):
            await sandbox.exec("true")
        assert sandbox.lost
    assert not processes_with("sleep\x00984003")
    assert _is_gone(folder)


OWNER = """
import asyncio
from tests.e2e.test_shell_sandbox import RECIPE

async def main() -> None:
    async with RECIPE.sandbox() as sandbox:
        print(sandbox.working_dir, flush=True)
        await sandbox.exec("setsid sleep 984004 & sleep 984004")

asyncio.run(main())
"""


def test_what_runs_in_a_sandbox_ends_when_its_owner_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        folder = Path(owner.stdout.readline().strip())
        wait_until_there("sleep\x00984004")
        owner.kill()
    wait_until_gone("sleep\x00984004")
    assert folder.is_dir()  # which is not the shell's to remove
    folder.rmdir()


async def test_a_command_that_kills_its_wrapper_is_lost_though_a_child_holds_its_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shell_sandbox, "LOOK_INTERVAL", 0.2)
    async with RECIPE.sandbox() as sandbox:
        async with asyncio.timeout(30):
            with pytest.raises(CommandLost, match="supervisor"):
                await sandbox.exec("sleep 984005 & kill -9 $PPID; sleep 984005")
        assert (await sandbox.exec("echo on")).stdout == "on\n"
        assert not processes_with("sleep\x00984005")


async def test_a_shell_that_does_not_answer_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell_sandbox, "LOOK_INTERVAL", 0.1)
    monkeypatch.setattr(shell_sandbox, "ANSWER_TIMEOUT", 0.1)
    monkeypatch.setattr(shell_sandbox, "READ_TIMEOUT", 2.0)
    async with RECIPE.sandbox() as sandbox:
        control = _control_shell(sandbox)
        os.kill(control, signal.SIGSTOP)
        try:
            async with asyncio.timeout(30):
                with pytest.raises(SandboxLost, match="does not answer"):
                    await sandbox.exec("sleep 984006")
        finally:
            os.kill(control, signal.SIGCONT)
    assert not processes_with("sleep\x00984006")


@dataclass(frozen=True, kw_only=True)
class DockerCommand(Backend):
    """Containers by the `docker` command, as the page on backends has it."""

    name: ClassVar[str] = "docker-command"

    async def _make(self, on_progress: ProgressCallback) -> Sandbox:
        run = ("docker", "run", "--detach", "--network", "none", "--entrypoint", "sleep")
        made = await _output(*run, "paddock:base", "600")
        user = frozenset({Capability.USER})
        return await Container(self, made, working_dir="/box", capabilities=user).ready()


class Container(ShellSandbox):
    async def _open(self, argv: Sequence[str], user: str | None = None) -> Process:
        run = ("docker", "exec", "--interactive", *(("--user", user) if user else ()), self.id)
        return await asyncio.create_subprocess_exec(
            *run, *argv, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )

    async def _close(self) -> None:
        await _output("docker", "rm", "--force", self.id)


async def _output(*argv: str) -> str:
    process = await asyncio.create_subprocess_exec(*argv, stdout=PIPE)
    stdout, _ = await process.communicate()
    assert process.returncode == 0
    return stdout.decode().strip()


@pytest.mark.docker
async def test_containers_by_the_docker_command(base_image: object, require: Require) -> None:
    require("the docker command", shutil.which("docker"), "there is no program called docker")
    async with DockerCommand(env_vars={"A": "1"}).sandbox() as sandbox:
        result = await sandbox.exec("echo $A; pwd; cat; echo err >&2; exit 3", stdin="in")
        assert (result.exit_code, result.stdout, result.stderr) == (3, "1\n/box\nin", "err\n")
        assert (await sandbox.exec("id -un", user="nobody")).stdout == "nobody\n"
        await sandbox.fs.write_text("a/b", "hello\n")
        assert [line.text for line in (await sandbox.fs.grep("hel+o")).lines] == ["hello"]
        with pytest.raises(ExecTimeout):
            await sandbox.exec("setsid sleep 984007 & sleep 984007", timeout=1)
        assert not processes_with("sleep\x00984007")
        running = asyncio.create_task(sandbox.exec("sleep 984008"))
        await sandbox.exec("true")
        await _output("docker", "kill", sandbox.id)
        with pytest.raises(SandboxLost):
            await running


@pytest.mark.parametrize(
    ("via", "reason"),
    [
        (("no-such-program-at-all",), "no-such-program-at-all"),
        (("sh", "-c", "echo Connection refused >&2; exit 255"), "exit code 255.*refused"),
    ],
)
async def test_what_cannot_be_reached_says_why(via: Sequence[str], reason: str) -> None:
    with pytest.raises(SandboxLost, match=reason):
        await ViaBackend(via=tuple(via)).create()


async def test_a_tool_that_is_missing_inside_is_named(tmp_path: Path) -> None:
    for tool in ("sh", "sleep", "grep", "mkdir", "rm", "cat", "stat"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    recipe = ViaBackend(via=("env", "-i", f"PATH={tmp_path}", "/bin/sh", "-c"))
    async with recipe.sandbox() as sandbox:
        assert (await sandbox.exec("echo $((1 + 1))")).stdout == "2\n"
        assert (await sandbox.fs.stat(".")).kind == "directory"
        with pytest.raises(Unsupported, match="'find'"):
            await sandbox.fs.glob("*")


async def test_what_such_a_backend_cannot_do_is_refused() -> None:
    async with RECIPE.sandbox() as sandbox:
        assert sandbox.capabilities == frozenset()
        for call in (
            lambda: sandbox.exec("true", user="nobody"),
            lambda: sandbox.url(80),
            lambda: sandbox.fork(1),
            lambda: sandbox.snapshot("x"),
            sandbox.pause,
            sandbox.stats,
        ):
            with pytest.raises(Unsupported, match="via"):
                await call()
