"""Who owns the image of forks while they are made, and what becomes of it when that fails."""

from __future__ import annotations

import asyncio
import gc
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from paddock import SandboxLost
from paddock.backends.docker import making
from paddock.backends.docker.containers import removal
from paddock.backends.docker.containers.creation import create_container
from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.fallback import launch
from paddock.sandbox import Capability
from tests.e2e.docker.ours import RECIPE, forks, names

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from paddock.backends.docker.containers.plan import ContainerPlan
    from paddock.backends.docker.containers.sandbox import DockerSandbox
    from paddock.backends.docker.engine.client import Engine

pytestmark = pytest.mark.docker


async def test_a_fork_has_what_its_sandbox_had_and_needs_no_recipe(engine: Engine) -> None:
    recipe = replace(RECIPE, env_vars={"OPEN": "1"}, secrets={"KEY": "0123456789"}, setup=["id"])
    there = weakref.ref(recipe)
    async with await recipe.create() as sandbox:
        del recipe
        gc.collect()
        assert there() is None
        (fork,) = await sandbox.fork()
        async with fork:
            assert fork.labels == sandbox.labels
            assert (await fork.exec("echo $OPEN $KEY")).stdout == "1 0123456789\n"
            assert fork.redactor.text("0123456789") == sandbox.redactor.text("0123456789")


async def test_a_group_is_prepared_once_and_each_goes_back_to_that(engine: Engine) -> None:
    recipe = replace(RECIPE, setup=["cat /proc/sys/kernel/random/uuid > once"])
    async with recipe.group(2) as group:
        told = {(await each.exec("cat once", check=True)).stdout for each in group.sandboxes}
        assert len(told) == 1
        await group.sandboxes[0].exec("echo changed > once", check=True)
        fresh = await group.reset(group.sandboxes[0])
        assert {(await fresh.exec("cat once")).stdout} == told
    assert not await forks(engine)


async def test_a_fork_that_fails_does_not_take_the_image_from_the_others(
    engine: Engine, sandbox: DockerSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, failed, begun = launch.start, asyncio.Event(), []

    async def started(engine: Engine, plan: ContainerPlan, *rest: Any) -> object:
        begun.append(plan)
        if len(begun) == 2:
            raise EngineError("no space left", status=500)
        await failed.wait()
        return await start(engine, plan, *rest)

    take_back = making._take_back

    async def taken_back(*args: Any) -> None:
        await take_back(*args)
        failed.set()

    monkeypatch.setattr(launch, "start", started)
    monkeypatch.setattr(making, "_take_back", taken_back)
    with pytest.raises(EngineError, match="no space left"):
        await sandbox.fork(2)
    assert await names(engine) == {f"/{sandbox.id}"}
    assert await forks(engine) == []


async def test_the_image_goes_with_a_fork_that_is_only_removed_later(
    engine: Engine, sandbox: DockerSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hanging(engine: Engine, plan: ContainerPlan, *_: object) -> None:
        await create_container(engine, plan)
        raise EngineError("the engine did not answer")

    monkeypatch.setattr(removal, "INTERVAL", 0.5)
    monkeypatch.setattr(launch, "start", hanging)
    with pytest.raises(EngineError, match="did not answer"):
        await sandbox.fork()
    async with asyncio.timeout(60):
        while await names(engine) != {f"/{sandbox.id}"} or await forks(engine):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("control_groups")
async def test_a_container_that_is_gone_is_lost_to_whoever_asks_its_engine(
    engine: Engine, sandbox: DockerSandbox
) -> None:
    calls: dict[Capability, Callable[[], Any]] = {
        Capability.FORK: sandbox.fork,
        Capability.SNAPSHOT: lambda: sandbox.snapshot(f"paddock-test-gone:{sandbox.id}"),
        Capability.PAUSE: sandbox.pause,
        Capability.STATS: sandbox.stats,
    }
    assert calls.keys() <= sandbox.capabilities
    await engine.call("removing", engine.client.remove_container, sandbox.id, force=True)
    for call in calls.values():
        with pytest.raises(SandboxLost):
            await call()
