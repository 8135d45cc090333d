"""A sandbox that is being made is deleted by nobody: it goes by itself until its maker has it."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from paddock.backends.daytona import deletion, inventory, making, service
from paddock.errors import SandboxError
from paddock.testing.daytona import RefuseStart, StuckIn
from tests.e2e.daytona.served import CREATE, DEADLINE, DELETE, made, meeting

if TYPE_CHECKING:
    from tests.e2e.conftest import Daytona

pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOST_AND_FOUND", "SOON"):
        monkeypatch.setattr(making, name, 0.2)
    monkeypatch.setattr(service, "REPEATING", 1.0)


def intervals(daytona: Daytona) -> tuple[int, int]:
    (there,) = daytona.server.sandboxes.values()
    return there.settings["autoStopInterval"], there.settings["autoDeleteInterval"]


async def begun(daytona: Daytona) -> None:
    """Wait until the server makes a sandbox."""
    async with asyncio.timeout(DEADLINE):
        while not daytona.living:  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.01)


async def test_a_creation_that_times_out_says_that_its_deletion_continues(
    daytona: Daytona,
) -> None:
    daytona.server.faults.add(match=CREATE, kind=StuckIn(state="creating"))
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(SandboxError, match="timeout") as caught:
            await replace(daytona.recipe, create_timeout=1).create()
    (note,) = caught.value.__notes__
    assert "continues in the background" in note
    assert daytona.living
    daytona.server.release()
    await daytona.let_go()
    assert not daytona.living


async def test_a_creation_that_is_cancelled_returns_soon_and_is_deleted_when_it_can_be(
    daytona: Daytona, caplog: pytest.LogCaptureFixture
) -> None:
    daytona.server.faults.add(match=CREATE, kind=StuckIn(state="creating"))
    refused = daytona.server.faults.add(match=DELETE, kind=StuckIn(state="none"), times=None)
    creating = asyncio.create_task(daytona.recipe.create())
    await begun(daytona)
    async with asyncio.timeout(DEADLINE):
        creating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creating
    assert "continues in the background" in caplog.text
    assert refused.fired
    daytona.server.release()
    await daytona.let_go()
    assert not daytona.living


MAKER = """
import asyncio, sys
from daytona import DaytonaConfig
from paddock.backends.daytona import DaytonaBackend

config = DaytonaConfig(api_key=sys.argv[1], api_url=sys.argv[2], target="us")
asyncio.run(DaytonaBackend(config=config, snapshot="", lease=eval(sys.argv[3])).create())
"""


async def half_made(daytona: Daytona, lease: float | None) -> str:
    """The id of a sandbox that is still being made, and whose maker was killed."""
    fault = daytona.server.faults.add(match=CREATE, kind=StuckIn(state="creating"))
    maker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", MAKER),
        *(daytona.server.api_key, daytona.server.api_url, repr(lease)),
        env={**os.environ, "TMPDIR": tempfile.gettempdir()},
        stderr=subprocess.DEVNULL,
    )
    waiting = asyncio.create_task(maker.wait())
    await meeting(fault, waiting)
    await begun(daytona)
    maker.kill()
    await waiting
    (identity,) = daytona.living
    return identity


@pytest.mark.parametrize("lease", [300.0, None], ids=["lease", "lasting"])
async def test_a_dead_run_s_half_made_sandbox_delays_nobody_and_is_collected_later(
    daytona: Daytona, lease: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    left = await half_made(daytona, lease)
    async with made(daytona.recipe) as sandbox:  # which collects first
        assert set(daytona.living) == {left, sandbox.id}
    assert daytona.server.count("DELETE", f"/sandbox/{left}") == 1
    caplog.set_level(logging.WARNING)
    assert list(await daytona.recipe.gc()) == []
    assert f"{left} is still being made" in caplog.text
    with pytest.raises(SandboxError, match="still being made"):
        await daytona.recipe.delete(left)
    daytona.server.release()
    await daytona.server.settled()
    assert list(await daytona.recipe.gc()) == [left]


async def test_what_its_maker_never_had_stops_and_goes_by_itself(daytona: Daytona) -> None:
    await half_made(daytona, None)
    daytona.server.release()
    await daytona.server.settled()
    daytona.server.clock.advance(10 * 60)
    await daytona.empty()


@pytest.mark.parametrize(
    ("lease", "auto_stop", "ephemeral", "wanted"),
    [
        (None, 0, False, (0, -1)),
        (None, 30, False, (30, -1)),
        (None, 7, True, (7, 0)),
        (300.0, 0, False, (5, 0)),
        (7200.0, 0, False, (120, 0)),
    ],
)
async def test_one_that_its_maker_has_lives_as_its_recipe_says(
    daytona: Daytona,
    lease: float | None,
    auto_stop: int,
    ephemeral: bool,
    wanted: tuple[int, int],
) -> None:
    daytona.server._fleet.delays["creating"] = 0.3
    recipe = replace(daytona.recipe, lease=lease, auto_stop_interval=auto_stop, ephemeral=ephemeral)
    creating = asyncio.create_task(recipe.create())
    await begun(daytona)
    stop, delete = intervals(daytona)
    assert 0 < stop <= 8
    assert delete == 0
    async with await creating:
        assert intervals(daytona) == wanted
        assert list(await daytona.recipe.gc()) == []
    changes = daytona.server.count("POST", "/sandbox/.*/auto(stop|delete)/.*")
    assert changes <= 2


async def test_a_lasting_one_is_not_collected_when_its_maker_has_gone(daytona: Daytona) -> None:
    sandbox = await replace(daytona.recipe, lease=None).create()
    await sandbox.detach()
    daytona.server.clock.advance(24 * 3600)
    assert list(await daytona.recipe.gc()) == []
    (info,) = await daytona.recipe.list()
    assert (info.id, info.owner) == (sandbox.id, "unknown")
    assert await daytona.recipe.delete(sandbox.id)


async def test_what_a_late_index_tells_of_a_lasting_one_is_looked_at_again(
    daytona: Daytona, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = await replace(daytona.recipe, lease=None).create()
    await sandbox.detach()
    real = inventory.listed

    async def late(*arguments: object, **options: object) -> list[object]:
        found = await real(*arguments, **options)  # type: ignore[arg-type]
        for native in found:
            native.auto_stop_interval, native.auto_delete_interval = 7, 0
        return found

    monkeypatch.setattr(deletion, "listed", late)
    assert list(await daytona.recipe.gc()) == []
    assert await daytona.recipe.delete(sandbox.id)


async def test_a_start_that_is_refused_tells_the_reason_and_leaves_nothing(
    daytona: Daytona,
) -> None:
    daytona.server.faults.add(match=CREATE, kind=RefuseStart(reason="the image has no shell"))
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(SandboxError, match="the image has no shell"):
            await daytona.recipe.create()
    await daytona.let_go()
    assert not daytona.living
