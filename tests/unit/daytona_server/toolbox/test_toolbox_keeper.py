"""Nothing of a sandbox is left on this machine, however its server ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from paddock.testing.daytona.toolbox import Toolbox
from paddock.testing.daytona.toolbox.processes import Command, Processes, SpawnFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DEADLINE = 60.0
"""Seconds for what takes milliseconds."""
DAEMON = "(setsid sh -c 'echo $$; exec >&- 2>&-; sleep 60' &)"
"""Prints its id, and leaves its parent, its group and its session."""
SERVER = f"""
import asyncio, os
from pathlib import Path
from paddock.testing.daytona.toolbox.processes import Command, Processes

async def main():
    processes = Processes()
    await processes.start()
    command = Command(argv=["sh", "-c", {DAEMON!r}], cwd=Path("/"), env=dict(os.environ))
    await processes.spawn(command, stdin=0, stdout=1, stderr=2)
    await asyncio.Event().wait()

asyncio.run(main())
"""

Ended = Callable[[int], Awaitable[None]]


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    processes = Processes()
    await processes.start()
    yield processes
    await processes.stop()


async def test_a_server_killed_outright_leaves_no_daemon_behind(ended: Ended) -> None:
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SERVER,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    assert server.stdout is not None
    async with asyncio.timeout(DEADLINE):
        daemon = int(await server.stdout.readline())
    os.kill(daemon, 0)
    server.send_signal(signal.SIGKILL)
    await server.wait()
    await ended(daemon)


async def test_an_end_is_told_with_its_exit_code_or_signal(processes: Processes) -> None:
    for script, status in (("exit 3", 3), ("kill -TERM $$", -15)):
        running = await processes.spawn(_shell(script), stdin=0, stdout=1, stderr=2)
        async with asyncio.timeout(DEADLINE):
            assert await running.ended == status


async def test_a_program_that_is_not_there_is_told_as_such(processes: Processes) -> None:
    command = Command(argv=["/no/such/program"], cwd=Path("/"), env={})
    with pytest.raises(SpawnFailed, match="no such file or directory"):
        await processes.spawn(command, stdin=0, stdout=1, stderr=2)


async def test_an_environment_of_a_megabyte_is_passed_whole(processes: Processes) -> None:
    env = {f"VARIABLE_{number}": "x" * 100_000 for number in range(10)}
    command = Command(argv=["/bin/sh", "-c", 'exit "${#VARIABLE_9}"'], cwd=Path("/"), env=env)
    running = await processes.spawn(command, stdin=0, stdout=1, stderr=2)
    async with asyncio.timeout(DEADLINE):
        assert await running.ended == 100_000 % 256


async def test_what_is_stopped_starts_nothing(processes: Processes) -> None:
    running = await processes.spawn(_shell("sleep 60"), stdin=0, stdout=1, stderr=2)
    await processes.stop()
    assert running.ended.result() == -signal.SIGKILL
    with pytest.raises(SpawnFailed, match="stopped"):
        await processes.spawn(_shell("true"), stdin=0, stdout=1, stderr=2)


async def test_a_toolbox_that_was_never_started_can_be_removed(tmp_path: Path) -> None:
    await Toolbox(tmp_path / "box", env={}, image="any").remove()


def _shell(script: str) -> Command:
    return Command(argv=["/bin/sh", "-c", script], cwd=Path("/"), env={})
