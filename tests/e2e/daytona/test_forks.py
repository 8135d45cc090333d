"""What becomes of a sandbox in Daytona that is closed before its forks, which Daytona keeps.

The fixture fails each test that leaves a sandbox on the server or a client open.
"""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from paddock.backends.daytona import inventory, service
from paddock.backends.daytona.sandbox import DaytonaSandbox
from paddock.errors import ConfigError, SandboxError, SandboxLost
from paddock.testing.daytona import Status

if TYPE_CHECKING:
    from paddock.backends.daytona import DaytonaBackend
    from paddock.sandbox import Sandbox
    from tests.e2e.conftest import Daytona

pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.fixture
def lasting(daytona: Daytona) -> DaytonaBackend:
    """A recipe for sandboxes that may be detached."""
    return replace(daytona.recipe, lease=None)


def elsewhere(recipe: DaytonaBackend) -> DaytonaBackend:
    """The same account, as another process has it: with a client of its own."""
    assert recipe.config is not None
    return replace(recipe, config=recipe.config.model_copy(update={"target": "eu"}))


async def closed_before_its_fork(recipe: DaytonaBackend) -> tuple[str, str]:
    """The ids of a closed sandbox and of its detached fork."""
    parent = await recipe.create()
    (fork,) = await parent.fork()
    await fork.detach()
    await parent.aclose()
    return parent.id, fork.id


async def test_a_closed_sandbox_goes_with_its_detached_fork(lasting: DaytonaBackend) -> None:
    parent, fork = await closed_before_its_fork(lasting)
    seen = {info.id: (info.state, info.owner) for info in await lasting.list()}
    assert seen == {parent: ("ended", "gone"), fork: ("running", "unknown")}
    with pytest.raises(ConfigError, match="is closed"):
        await lasting.attach(parent)
    assert await elsewhere(lasting).delete(fork)
    assert await lasting.list() == []
    assert not await lasting.delete(parent)


async def test_a_detached_fork_keeps_neither_its_parent_nor_a_client(
    lasting: DaytonaBackend,
) -> None:
    parent = await lasting.create()
    (fork,) = await parent.fork()
    await fork.detach()
    await parent.aclose()
    assert not service._services.get(asyncio.get_running_loop())
    there, identity = weakref.ref(parent), fork.id
    del parent
    gc.collect()
    assert there() is None
    assert await lasting.delete(identity)


@pytest.mark.parametrize("detached_first", [True, False], ids=["detached", "held"])
async def test_a_closed_sandbox_goes_with_the_last_of_its_forks(
    daytona: Daytona, lasting: DaytonaBackend, *, detached_first: bool
) -> None:
    parent = await lasting.create()
    detached, held = await parent.fork(2)
    await detached.detach()
    await parent.aclose()

    async def end_detached() -> None:
        assert await elsewhere(lasting).delete(detached.id)

    steps = [end_detached, held.aclose]
    first, last = steps if detached_first else reversed(steps)
    await first()
    assert parent.id in daytona.living
    await last()
    assert daytona.living == []


async def test_forks_deleted_at_the_same_time_take_their_closed_parent_along(
    daytona: Daytona, lasting: DaytonaBackend
) -> None:
    parent = await lasting.create()
    forks = await parent.fork(3)
    await asyncio.gather(parent.aclose(), *(fork.aclose() for fork in forks))
    assert daytona.living == []


async def line_of_descent(recipe: DaytonaBackend) -> list[Sandbox]:
    parent = await recipe.create()
    (child,) = await parent.fork()
    (grandchild,) = await child.fork()
    return [parent, child, grandchild]


async def test_closed_ancestors_go_with_a_grandchild(
    daytona: Daytona, lasting: DaytonaBackend
) -> None:
    parent, child, grandchild = await line_of_descent(lasting)
    await parent.aclose()
    await child.aclose()
    await grandchild.detach()
    assert len(daytona.living) == 3
    assert await elsewhere(lasting).delete(grandchild.id)
    assert daytona.living == []


async def test_an_ancestor_that_is_open_stays_when_its_descendants_go(
    daytona: Daytona, lasting: DaytonaBackend
) -> None:
    parent, child, grandchild = await line_of_descent(lasting)
    await child.aclose()
    await grandchild.aclose()
    assert daytona.living == [parent.id]
    assert (await parent.exec("echo on")).stdout == "on\n"
    await parent.aclose()


async def test_a_sandbox_deleted_by_its_id_is_lost_and_goes_with_its_forks(
    daytona: Daytona, lasting: DaytonaBackend
) -> None:
    parent = await lasting.create()
    first, second = await parent.fork(2)
    assert await elsewhere(lasting).delete(parent.id)
    assert parent.id in daytona.living
    with pytest.raises(SandboxLost):
        await parent.exec("true")
    await first.aclose()
    assert set(daytona.living) == {parent.id, second.id}
    assert await lasting.gc() == []
    await second.aclose()
    assert daytona.living == []
    await parent.aclose()


@pytest.mark.parametrize("lease", [None, 300.0], ids=["lasting", "leased"])
async def test_the_processes_of_a_closed_sandbox_die_though_its_fork_lives(
    daytona: Daytona, lease: float | None
) -> None:
    recipe = replace(daytona.recipe, lease=lease)
    parent = await recipe.create()
    started = await parent.exec("setsid sleep 984100 >/dev/null 2>&1 & echo $!")
    (fork,) = await parent.fork()
    process = f"/proc/{started.stdout.strip()}"
    assert os.access(process, os.F_OK)
    await parent.aclose()
    assert not os.access(process, os.F_OK)
    assert (await fork.exec("echo on")).stdout == "on\n"
    await fork.aclose()
    assert daytona.living == []


async def test_gc_takes_a_closed_sandbox_whose_forks_daytona_ended(
    daytona: Daytona, lasting: DaytonaBackend
) -> None:
    parent, fork = await closed_before_its_fork(lasting)
    assert await lasting.gc() == []
    there = daytona.server.sandboxes[fork]
    daytona.server._fleet.destroy(there)
    await daytona.server.settled()
    assert await elsewhere(lasting).gc() == [parent]


@pytest.mark.parametrize("of_parent", [True, False], ids=["of-parent", "of-fork"])
async def test_a_close_that_failed_is_tried_again(
    daytona: Daytona, lasting: DaytonaBackend, monkeypatch: pytest.MonkeyPatch, *, of_parent: bool
) -> None:
    monkeypatch.setattr(service, "REPEATING", 0.3)
    async with lasting.sandbox() as other:  # has a share of the same client
        parent = await lasting.create()
        (fork,) = await parent.fork()
        if of_parent:
            await parent.aclose()
        match = f"DELETE /api/sandbox/{parent.id if of_parent else fork.id}"
        fault = daytona.server.faults.add(match=match, kind=Status(status=500), times=None)
        for _ in range(2):
            with pytest.raises(SandboxError, match="deleting"):
                await fork.aclose()
        assert fault.fired
        assert parent.id in daytona.living
        daytona.server.faults.clear()
        await fork.aclose()
        await fork.aclose()
        assert (fork.id in daytona.living, parent.id in daytona.living) == (False, not of_parent)
        await parent.aclose()
        assert (await other.exec("echo on")).stdout == "on\n"


async def test_a_fork_that_could_not_be_made_takes_nothing_along(
    daytona: Daytona, lasting: DaytonaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "REPEATING", 0.3)
    parent = await lasting.create()
    daytona.server.faults.add(match="PUT .*/labels", kind=Status(status=500), times=None)
    with pytest.raises(SandboxError, match="labelling"):
        await parent.fork()
    daytona.server.faults.clear()
    assert daytona.living == [parent.id]
    await parent.aclose()


async def unfinished(parent: Sandbox, prefix: str | None = None) -> str:
    """Leave what a process leaves that is killed before it has labelled its fork; its id."""
    assert isinstance(parent, DaytonaSandbox)
    fork = await parent.native.fork(f"{prefix or inventory.fork_prefix()}000000000000")
    return str(fork.id)


@pytest.mark.parametrize("lease", [None, 300.0], ids=["lasting", "leased"])
async def test_a_fork_whose_maker_was_killed_is_collected_though_its_parent_lives(
    daytona: Daytona, lease: float | None
) -> None:
    recipe = replace(daytona.recipe, lease=lease)
    async with recipe.sandbox() as parent:
        fork = await unfinished(parent)
        (info,) = [each for each in await recipe.list() if each.id == fork]
        assert info.owner == "gone"
        with pytest.raises(ConfigError, match="not finished"):
            await recipe.attach(fork)
        assert await elsewhere(recipe).gc() == [fork]
        assert daytona.living == [parent.id]


async def test_a_sandbox_can_be_closed_that_has_a_fork_whose_maker_was_killed(
    daytona: Daytona, lasting: DaytonaBackend
) -> None:
    parent = await lasting.create()
    fork = await unfinished(parent)
    await parent.aclose()
    seen = {info.id: (info.state, info.owner) for info in await lasting.list()}
    assert seen == {parent.id: ("ended", "gone"), fork: ("running", "gone")}
    assert await elsewhere(lasting).gc() == [fork, parent.id]
    assert daytona.living == []


async def test_a_fork_that_another_host_is_making_is_left_to_it(
    daytona: Daytona, lasting: DaytonaBackend
) -> None:
    parent = await lasting.create()
    fork = await unfinished(parent, f"{inventory.FORK}0123456789ab-")
    await parent.aclose()
    assert await lasting.gc() == []
    (info,) = [each for each in await lasting.list() if each.id == fork]
    assert (info.state, info.owner) == ("running", "unknown")
    assert await lasting.delete(fork)
    assert daytona.living == []


async def test_a_fork_that_is_being_made_is_not_collected(
    lasting: DaytonaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, collected = inventory.claim_fork, []

    async def claimed(*args: Any, **given: Any) -> None:
        collected.append(await elsewhere(lasting).gc())
        await claim(*args, **given)

    monkeypatch.setattr(inventory, "claim_fork", claimed)
    async with lasting.sandbox() as parent:
        (fork,) = await parent.fork()
        async with fork:
            assert (await fork.exec("echo on")).stdout == "on\n"
    assert collected == [[]]


async def test_what_could_not_be_deleted_goes_when_the_next_sandbox_is_made(
    daytona: Daytona, lasting: DaytonaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "REPEATING", 0.3)
    parent = await lasting.create()
    (fork,) = await parent.fork()
    await parent.aclose()
    match = f"DELETE /api/sandbox/{parent.id}"
    daytona.server.faults.add(match=match, kind=Status(status=500), times=None)
    with pytest.raises(SandboxError, match="deleting"):
        await fork.aclose()
    daytona.server.faults.clear()
    assert daytona.living == [parent.id]
    async with lasting.sandbox() as other:
        assert daytona.living == [other.id]
