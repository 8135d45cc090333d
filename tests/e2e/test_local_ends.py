"""How local sandboxes end when their host is killed, or before they have begun."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from paddock import LocalBackend, SandboxLost
from paddock.backends import local
from paddock.backends.guest import monitor, precompiled, program
from paddock.backends.isolation import processes
from paddock.backends.local.sandbox import LocalSandbox

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOST = """
import asyncio, sys
from paddock import LocalBackend
async def main():
    sandbox = await LocalBackend(isolation=sys.argv[1]).create()
    await sandbox.exec("setsid sleep 983000 & (sleep 983001 &) ; true")
    print(sandbox.id, flush=True)
    await sandbox.exec("sleep 983002")
asyncio.run(main())
"""


@pytest.mark.parametrize("level", ["none", "bubblewrap"])
async def test_a_host_that_is_killed_leaves_no_process_and_the_next_one_no_directory(
    level: str, require: Callable[[str, bool, str], None], tmp_path: Path
) -> None:
    if level == "bubblewrap":
        found = await local.probe()
        require("bubblewrap", found.level == "bubblewrap", found.reason)
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    host = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOST, level, stdout=subprocess.PIPE, env=env
    )
    assert host.stdout is not None
    name = (await host.stdout.readline()).decode().strip()
    folder = tmp_path / f"paddock-{os.getuid()}"
    assert (folder / name).is_dir()
    assert len(await _sleepers()) >= 2
    host.kill()
    await host.wait()
    async with asyncio.timeout(60):
        # No event tells that somebody else's process has ended.
        while await _sleepers():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    again = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from paddock.backends import lease; print(len(lease.sweep()))",
        stdout=subprocess.PIPE,
        env=env,
    )
    out, _ = await again.communicate()
    assert out == b"1\n"
    assert list(folder.iterdir()) == []


async def _sleepers() -> list[str]:
    found = await asyncio.create_subprocess_exec(
        "pgrep", "-f", "^sleep 98300", stdout=subprocess.PIPE
    )
    out, _ = await found.communicate()
    return out.decode().split()


async def test_a_guest_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.fork_server, "umask", lambda: None)  # else it is a fork
    monkeypatch.setattr(precompiled, "BOOT", "import sys; sys.exit('no guest today')")
    with pytest.raises(SandboxLost, match="no guest today"):
        await LocalBackend(isolation="none").create()


def test_the_machine_has_the_tools_that_directories_are_removed_with() -> None:
    assert shutil.which("rm")
    assert shutil.which("chmod")


async def test_a_guest_that_a_command_stopped_is_lost_and_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(monitor, "ANSWER_TIMEOUT", 0.5)
    monkeypatch.setattr(LocalSandbox, "heartbeat_interval", 0.1)
    monkeypatch.setattr(program, "STOP_GRACE", 0.1)
    stop = "g=$(awk '/^PPid/{print $2}' /proc/$PPID/status); kill -STOP $g; sleep 100"
    async with LocalBackend(isolation="none").sandbox() as sandbox:
        stopping = asyncio.create_task(sandbox.exec(stop))
        async with asyncio.timeout(60):
            for call in (stopping, sandbox.fs.read_text("any"), sandbox.exec("true")):
                with pytest.raises(SandboxLost, match="not answered"):
                    await call


async def test_a_guest_in_bubblewrap_is_neither_stopped_nor_killed(
    require: Callable[[str, bool, str], None],
) -> None:
    found = await local.probe()
    require("bubblewrap", found.level == "bubblewrap", found.reason)
    async with LocalBackend(isolation="bubblewrap").sandbox() as sandbox:
        await sandbox.exec("kill -STOP 1; kill -KILL 1", timeout=30)
        assert (await sandbox.exec("echo on", timeout=30)).stdout == "on\n"
