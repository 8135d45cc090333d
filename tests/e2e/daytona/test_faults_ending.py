"""What becomes of a sandbox in Daytona that is taken away, closed, or left by its maker.

Each test ends with no sandbox on the server, no client left open and nothing that the SDK's
models do not describe, and counts what is asked: nothing is done twice, nothing in a storm.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from paddock.backends.daytona import service
from paddock.backends.daytona.sandbox import DaytonaSandbox
from paddock.errors import SandboxClosed, SandboxError, SandboxLost
from paddock.testing.daytona import (
    DropAfter,
    DropBefore,
    Status,
)
from tests.e2e.daytona.served import (
    DEADLINE,
    DELETE,
    EXECUTE,
    is_running,
    made,
    started,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.e2e.conftest import Daytona


pytestmark = pytest.mark.usefixtures("short_pauses")


async def stop(sandbox: DaytonaSandbox) -> None:
    await sandbox.native.stop()


async def archive(sandbox: DaytonaSandbox) -> None:
    await sandbox.native.stop()
    await sandbox.native.archive()


async def delete(sandbox: DaytonaSandbox) -> None:
    await sandbox.native.delete()


@pytest.mark.parametrize(
    ("way", "reason"),
    [(stop, "stopped"), (archive, "stopped|archived"), (delete, "deleted")],
    ids=["stop", "archive", "delete"],
)
@pytest.mark.parametrize("idle", [True, False], ids=["idle", "busy"])
async def test_a_sandbox_taken_away_is_lost_with_the_reason(
    daytona: Daytona, way: Callable[[DaytonaSandbox], Awaitable[None]], reason: str, *, idle: bool
) -> None:
    async with made(replace(daytona.recipe, lease=None)) as sandbox:
        running = None if idle else await started(sandbox, "exec sleep 987001")
        await way(sandbox)
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(SandboxLost, match=reason):
                await (running or sandbox.exec("true"))
        with pytest.raises(SandboxLost):
            await sandbox.fs.read_text("x")
    assert not daytona.living


async def test_a_sandbox_that_errs_under_us_tells_the_reason(daytona: Daytona) -> None:
    async with made(daytona.recipe) as sandbox:
        running = await started(sandbox, "exec sleep 987002")
        fleet = daytona.server._fleet
        (there,) = fleet.sandboxes.values()
        await there.toolbox.stop()
        fleet._fail(there, "error", "its runner is gone")
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(SandboxLost, match="its runner is gone"):
                await running


async def test_a_cancelled_command_ends_with_its_children_while_the_service_fails(
    daytona: Daytona, sandbox: DaytonaSandbox
) -> None:
    command = "setsid sh -c 'echo $$ > pid; : > there; exec sleep 987003' & wait"
    running = await started(sandbox, command)
    await sandbox.exec("until [ -e there ]; do sleep 0.02; done", timeout=DEADLINE)
    daytona.server.faults.add(match=EXECUTE, kind=Status(status=502), times=2)
    daytona.server.faults.add(match=EXECUTE, kind=DropAfter(), times=1, after=2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not await is_running(sandbox, int(await sandbox.fs.read_text("pid")))


@pytest.mark.parametrize(
    "match",
    [EXECUTE, DELETE, "POST /api/sandbox/.*/last-activity"],
    ids=["exec", "delete", "lease"],
)
async def test_closing_while_the_service_fails_leaves_nothing(daytona: Daytona, match: str) -> None:
    sandbox = await replace(daytona.recipe, lease=0.3).create()
    assert isinstance(sandbox, DaytonaSandbox)
    running = await started(sandbox, "exec sleep 987004")
    daytona.server.faults.add(match=match, kind=Status(status=503, body="html"), times=3)
    daytona.server.faults.add(match=match, kind=DropBefore(), times=1, after=3)
    async with asyncio.timeout(DEADLINE):
        await sandbox.aclose()
    with pytest.raises(SandboxClosed):
        await running
    assert not daytona.living


async def test_a_close_that_fails_for_good_raises_and_closes_the_client(
    daytona: Daytona, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "REPEATING", 0.3)
    sandbox = await daytona.recipe.create()
    daytona.server.faults.add(match=DELETE, kind=Status(status=500), times=None)
    with pytest.raises(SandboxError, match="deleting"):
        await sandbox.aclose()
    assert not service._services[asyncio.get_running_loop()]
    daytona.server.faults.clear()
    assert await daytona.recipe.gc() == [sandbox.id]  # nobody holds it any more


MAKER = """
import asyncio, sys
from daytona import DaytonaConfig
from paddock.backends.daytona import DaytonaBackend

async def main():
    config = DaytonaConfig(api_key=sys.argv[1], api_url=sys.argv[2], target="us")
    path = {"PATH": sys.argv[3]}
    recipe = DaytonaBackend(config=config, snapshot=sys.argv[4], env_vars=path)
    async with recipe.sandbox() as sandbox:
        print(sandbox.id, flush=True)
        await sandbox.exec("exec sleep 987005")

asyncio.run(main())
"""


@asynccontextmanager
async def killed_maker(daytona: Daytona) -> AsyncIterator[str]:
    """The sandbox of another process that was ended by SIGKILL; its id."""
    recipe, server = daytona.recipe, daytona.server
    path = os.environ["PATH"]
    maker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MAKER, server.api_key, server.api_url, path, str(recipe.snapshot),
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": tempfile.gettempdir()},
    )  # fmt: skip
    assert maker.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE * 2):
            identity = (await maker.stdout.readline()).decode().strip()
    finally:
        maker.send_signal(signal.SIGKILL)
        await maker.wait()
    yield identity


async def test_what_a_killed_maker_left_is_swept_by_another_process(daytona: Daytona) -> None:
    async with made(daytona.recipe) as mine, killed_maker(daytona) as identity:
        assert set(daytona.living) == {mine.id, identity}
        (left,) = [info for info in await daytona.recipe.list() if info.id == identity]
        assert left.owner == "gone"
        assert await daytona.recipe.gc() == [identity]
        assert daytona.living == [mine.id]


async def test_what_a_killed_maker_left_ends_by_its_lease(daytona: Daytona) -> None:
    async with killed_maker(daytona) as identity:
        daytona.server.clock.advance(200)  # the clock runs by itself, too
        assert daytona.living == [identity]
        daytona.server.clock.advance(300)
        await daytona.empty()
