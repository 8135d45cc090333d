"""A service that takes requests and answers none: who is cancelled does not wait for it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from paddock import _concurrency
from paddock.backends.daytona import inventory, making
from paddock.errors import SandboxLost
from paddock.testing.daytona import Delay
from tests.e2e.daytona.served import CREATE, DEADLINE, DELETE, EXECUTE, meeting, started

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from paddock.backends.daytona.sandbox import DaytonaSandbox
    from paddock.testing.daytona.faults import Fault
    from tests.e2e.conftest import Daytona

NEVER = Delay(seconds=3600)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_concurrency, "CANCEL_TIMEOUT", 0.3)
    for name in ("LOST_AND_FOUND", "SOON", "KILLING"):
        monkeypatch.setattr(making, name, 0.3)
    monkeypatch.setattr(inventory, "LOOKING", 1.0)


async def cancelled_at(fault: Fault, call: Awaitable[object]) -> None:
    """Cancel `call` once its requests hang, and wait for its end."""
    task = asyncio.ensure_future(call)
    await meeting(fault, task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, DEADLINE)


async def test_a_cancelled_creation_does_not_wait_for_its_removal(daytona: Daytona) -> None:
    faults = daytona.server.faults
    creating = faults.add(match=CREATE, kind=NEVER)
    faults.add(match="GET /api/sandbox/[^/]+", kind=NEVER, times=None)
    await cancelled_at(creating, daytona.recipe.create())
    faults.clear()
    await daytona.let_go()
    assert not daytona.living


async def test_a_cancelled_close_does_not_wait_for_the_removal_and_is_tried_again(
    daytona: Daytona,
) -> None:
    sandbox = await daytona.recipe.create()
    hanging = daytona.server.faults.add(match=DELETE, kind=NEVER, times=None)
    await cancelled_at(hanging, sandbox.aclose())
    daytona.server.faults.clear()
    assert daytona.living == [sandbox.id]
    await sandbox.aclose()
    assert not daytona.living


async def test_a_cancelled_command_is_given_up_with_the_sandbox(
    daytona: Daytona, sandbox: DaytonaSandbox
) -> None:
    running = await started(sandbox, "exec sleep 987006")
    daytona.server.faults.add(match=EXECUTE, kind=NEVER, times=None)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, DEADLINE)
    with pytest.raises(SandboxLost):
        await sandbox.exec("true")


WHERE_IT_IS_IMPORTED = """
import asyncio, sys, threading
from paddock.backends.daytona import DaytonaBackend

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "daytona":
            print(threading.current_thread() is threading.main_thread())

sys.meta_path.insert(0, Watch())
asyncio.run(DaytonaBackend(volumes=[("v", "/v")]).create())
"""


def test_the_sdk_is_not_imported_on_the_event_loop() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WHERE_IT_IS_IMPORTED],
        env={},
        capture_output=True,
        text=True,
        timeout=DEADLINE * 3,
        check=False,
    )
    assert done.stdout == "False\n"
    assert "MissingCredentials" in done.stderr
