"""What becomes of the making of a sandbox in Daytona that goes wrong, or is given up.

Each test ends with no sandbox on the server, no client left open and nothing that the SDK's
models do not describe, and counts what is asked: nothing is done twice, nothing in a storm.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import ConfigError, SandboxError
from paddock.testing.daytona import (
    CutWebSocket,
    Delay,
    DestroyDuringStart,
    DropBefore,
    ExpiredKey,
    FailWith,
    Quota,
    SilentEvents,
    Status,
)
from tests.e2e.daytona.served import (
    CREATE,
    DEADLINE,
    EVENTS,
    EXECUTE,
    LIST,
    WAIT,
    made,
    meeting,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from paddock.backends.daytona.sandbox import DaytonaSandbox
    from paddock.testing.daytona.faults import FaultKind
    from tests.e2e.conftest import Daytona


pytestmark = pytest.mark.usefixtures("short_pauses")


async def test_a_slow_start_is_waited_for(daytona: Daytona) -> None:
    daytona.server._fleet.delays["creating"] = 1.2
    async with made(daytona.recipe) as sandbox:
        assert (await sandbox.exec("echo fine")).ok


async def test_a_start_of_which_no_event_tells_is_seen(daytona: Daytona) -> None:
    daytona.server._fleet.delays["creating"] = 0.3
    daytona.server.faults.add(match=CREATE, kind=SilentEvents())
    async with made(daytona.recipe) as sandbox:
        assert (await sandbox.exec("echo fine")).ok


async def test_a_start_without_any_events_works(daytona: Daytona) -> None:
    daytona.server.faults.add(match="GET /api/socket.io/", kind=Status(status=503), times=None)
    async with made(daytona.recipe) as sandbox:
        assert (await sandbox.exec("echo fine")).ok


async def test_a_start_whose_events_are_cut_off_is_seen(daytona: Daytona) -> None:
    """The WebSocket breaks in the middle of it, and again each time that it is back."""
    daytona.server._fleet.delays["creating"] = 1.5
    cut = daytona.server.faults.add(match=EVENTS, kind=CutWebSocket(bytes=150), times=None)
    async with made(daytona.recipe) as sandbox:
        assert (await sandbox.exec("echo fine")).stdout == "fine\n"
    assert cut.fired >= 1
    assert daytona.server.count("POST", "/sandbox") == 1
    daytona.server.faults.clear()


@pytest.mark.parametrize("state", ["error", "build_failed"])
async def test_a_start_that_fails_tells_the_reason_and_leaves_nothing(
    daytona: Daytona, state: Any
) -> None:
    kind = FailWith(state=state, reason="the disk of runner 7 is on fire")
    daytona.server.faults.add(match=CREATE, kind=kind)
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(SandboxError, match="runner 7 is on fire"):
            await daytona.recipe.create()
    assert not daytona.living
    assert daytona.server.count("POST", "/sandbox") == 1


async def test_a_sandbox_destroyed_during_its_start_is_told_at_once(daytona: Daytona) -> None:
    daytona.server.faults.add(match=CREATE, kind=DestroyDuringStart())
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(SandboxError):
            await daytona.recipe.create()
    assert not daytona.living


async def test_a_quota_is_told_in_the_service_s_words(daytona: Daytona) -> None:
    daytona.server.faults.add(match=CREATE, kind=Quota(), times=None)
    before = asyncio.get_running_loop().time()
    with pytest.raises(SandboxError, match="Total CPU limit exceeded"):
        await daytona.recipe.create()
    assert asyncio.get_running_loop().time() - before < 2  # nothing was made: no long search
    assert daytona.server.count("POST", "/sandbox") == 1


async def test_an_expired_key_names_its_variable(daytona: Daytona, sandbox: DaytonaSandbox) -> None:
    for match, call in ((CREATE, daytona.recipe.create), (LIST, daytona.recipe.list)):
        daytona.server.faults.add(match=match, kind=ExpiredKey())
        asked: Awaitable[Any] = call()
        with pytest.raises(ConfigError, match="DAYTONA_API_KEY"):
            await asked
    assert daytona.server.count("POST", "/sandbox") == 2  # a wrong key is throttled: asked once


@pytest.mark.parametrize(
    "stage", [LIST, CREATE, WAIT, EXECUTE], ids=["sweep", "create", "wait", "guest"]
)
async def test_a_creation_cancelled_at_any_stage_leaves_nothing(
    daytona: Daytona, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddock.backends.daytona.making.LOST_AND_FOUND", 0.6)
    fault = daytona.server.faults.add(match=stage, kind=Delay(seconds=0.3))
    making = asyncio.create_task(daytona.recipe.create())
    await meeting(fault, making)
    making.cancel()
    before = asyncio.get_running_loop().time()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert asyncio.get_running_loop().time() - before < 5
    # What the server does with a request that nobody waits for any more is done by then.
    daytona.server.faults.add(match=LIST, kind=Delay(seconds=0.5))
    assert list(await daytona.recipe.list()) == []
    assert not daytona.living


async def test_a_guest_that_does_not_start_can_be_cancelled_promptly(daytona: Daytona) -> None:
    fault = daytona.server.faults.add(match=EXECUTE, kind=Delay(seconds=3600))
    making = asyncio.create_task(daytona.recipe.create())
    await meeting(fault, making)
    making.cancel()
    before = asyncio.get_running_loop().time()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert asyncio.get_running_loop().time() - before < 3
    assert not daytona.living


async def test_a_creation_cancelled_again_and_again_leaves_nothing(
    daytona: Daytona, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddock.backends.daytona.making.LOST_AND_FOUND", 0.2)
    for step in range(0, 60, 7):
        making = asyncio.create_task(daytona.recipe.create())
        for _ in range(step):
            await asyncio.sleep(0)
        while not making.done():
            making.cancel()
            await asyncio.sleep(0.01)
        assert making.cancelled() or await _closed(making)
        assert not daytona.living


async def _closed(making: asyncio.Task[Any]) -> bool:
    await making.result().aclose()
    return True


@pytest.mark.parametrize(
    "kind", [Status(status=503, body="html"), DropBefore()], ids=lambda kind: type(kind).__name__
)
@pytest.mark.parametrize("log", ["build-logs-url", "build-logs"])
async def test_a_build_whose_log_cannot_be_read_makes_its_sandbox(
    daytona: Daytona, log: str, kind: FaultKind
) -> None:
    fault = daytona.server.faults.add(match=f"GET /api/sandbox/[^/]+/{log}", kind=kind, times=3)
    recipe = replace(daytona.recipe, snapshot=None)
    async with recipe.sandbox(on_progress=lambda _: None) as sandbox:
        assert (await sandbox.exec("echo fine")).stdout == "fine\n"
        assert daytona.living == [sandbox.id]
    assert fault.fired


async def test_a_build_that_fails_tells_the_reason_and_leaves_nothing(daytona: Daytona) -> None:
    kind = FailWith(state="build_failed", reason="no such package: httpxx")
    daytona.server.faults.add(match=CREATE, kind=kind)
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(SandboxError, match="httpxx"):
            await replace(daytona.recipe, snapshot=None).create(on_progress=lambda _: None)
    assert not daytona.living
