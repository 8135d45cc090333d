"""What the tests of Daytona's backend share: where requests go, what may befall them, and
commands that are known to run."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from paddock.backends.daytona.sandbox import DaytonaSandbox
from paddock.testing.daytona import DropAfter, DropBefore, Status, Truncate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from paddock.backends.daytona import DaytonaBackend
    from paddock.sandbox import Sandbox
    from paddock.testing.daytona.faults import Fault, FaultKind

DEADLINE = 60.0
"""Seconds for what takes milliseconds, on a machine that is busy."""
CREATE = "POST /api/sandbox"
WAIT = "GET /api/sandbox/[^/]+"
LIST = "GET /api/sandbox"
DELETE = "DELETE /api/sandbox/[^/]+"
EXECUTE = "POST /toolbox/.*/process/execute"
UPLOAD = "POST /toolbox/.*/files/bulk-upload"
DOWNLOAD = "POST /toolbox/.*/files/bulk-download"
RENEW = "POST /api/sandbox/.*/last-activity"
EVENTS = "GET /api/socket.io/"
BIG = 512 * 1024
"""Bytes of a file that goes by the service's own streams."""

FAULTS: dict[str, FaultKind] = {
    "429": Status(status=429, headers={"Retry-After": "0.05"}),
    "500-json": Status(status=500),
    "502-html": Status(status=502, body="html"),
    "503-empty": Status(status=503, body="empty"),
    "504-json": Status(status=504),
    "524-html": Status(status=524, body="html"),
    "drop-before": DropBefore(),
    "drop-after": DropAfter(),
    "truncated": Truncate(bytes=10),
}
every_fault = pytest.mark.parametrize("kind", FAULTS.values(), ids=FAULTS)


@asynccontextmanager
async def made(recipe: DaytonaBackend) -> AsyncIterator[DaytonaSandbox]:
    async with recipe.sandbox() as sandbox:
        assert isinstance(sandbox, DaytonaSandbox)
        yield sandbox


async def is_running(sandbox: Sandbox, pid: int) -> bool:
    """Whether a process of the sandbox runs, as one of its own commands sees it."""
    state = await sandbox.exec(f"cut -d')' -f2 /proc/{pid}/stat 2>/dev/null")
    return state.ok and not state.stdout.lstrip().startswith("Z")


async def meeting(fault: Fault, task: asyncio.Task[Any], times: int = 1) -> None:
    """Wait until requests of `task` have met the `fault`."""
    async with asyncio.timeout(DEADLINE):
        while fault.fired < times:
            assert not (await asyncio.wait([task], timeout=0.005))[0], "it met nothing"


async def started(sandbox: Sandbox, command: str) -> asyncio.Task[Any]:
    """A task that waits for `command`, which is running by now."""
    task = asyncio.create_task(sandbox.exec(f": > running; {command}"))
    await bell(sandbox, "running")
    return task


async def bell(sandbox: Sandbox, name: str) -> None:
    """Wait until a command has made the file `name`."""
    waiting = f"until [ -e {name} ]; do sleep 0.02; done"
    assert (await sandbox.exec(waiting, timeout=DEADLINE)).ok
