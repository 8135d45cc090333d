"""Warm pools over every backend: what comes out is fresh, alive and at once; nothing is left."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from typing import TYPE_CHECKING

import pytest

from paddock.backends.pool import SandboxPool
from paddock.errors import SandboxClosed, SandboxLost, SetupFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from paddock.backends.base import Backend, Progress
    from paddock.sandbox import Sandbox


@pytest.fixture
async def recipe(backend: Backend) -> AsyncIterator[Backend]:
    """A recipe whose sandboxes can be told from all others; at the end none may be there."""
    recipe = dataclasses.replace(backend, labels={"test": secrets.token_hex(6)})
    async with asyncio.timeout(60):
        yield recipe
        assert await recipe.list(recipe.labels) == []


async def test_a_ready_one_is_taken_at_once_and_is_provisioned(recipe: Backend) -> None:
    recipe = dataclasses.replace(recipe, setup=["echo ready > state"], env_vars={"WHO": "me"})
    async with recipe.pool(size=2) as pool:
        await pool.wait_ready()
        acquiring = pool.acquire()
        with pytest.raises(StopIteration) as taken:  # it has waited for nothing
            acquiring.send(None)
        sandbox: Sandbox = taken.value.value
        async with sandbox:
            assert (await sandbox.exec("cat state; echo $WHO")).stdout == "ready\nme\n"


async def test_every_taker_gets_a_fresh_one_and_the_pool_fills_up_again(recipe: Backend) -> None:
    async with recipe.pool(size=2) as pool:
        seen = [await _use(pool) for _ in range(5)]
        await pool.wait_ready()
        assert pool.stats().ready == 2
    assert len(set(seen)) == 5


async def _use(pool: SandboxPool) -> str:
    async with pool.sandbox() as sandbox:
        await sandbox.exec("test ! -e used && touch used", check=True)
        return sandbox.id


async def test_one_that_was_killed_while_idle_is_not_handed_out(
    recipe: Backend, kill: Callable[[Sandbox], Awaitable[None]]
) -> None:
    async with recipe.pool(size=2) as pool:
        await pool.wait_ready()
        victim = pool._state.idle[0].sandbox
        await kill(victim)
        async with asyncio.timeout(60):
            while not victim.lost:  # noqa: ASYNC110 - nothing else tells on every backend
                await asyncio.sleep(0.01)
        assert pool.stats().ready == 1
        for _ in range(2):
            async with pool.sandbox() as sandbox:
                assert (await sandbox.exec("echo alive")).stdout == "alive\n"
                assert sandbox.id != victim.id
        assert pool.stats().replaced == 1


async def test_one_that_was_taken_outlives_the_pool(recipe: Backend) -> None:
    async with recipe.pool(size=1) as pool:
        sandbox = await pool.acquire()
    async with sandbox:
        assert (await sandbox.exec("echo still")).stdout == "still\n"


async def test_closing_while_sandboxes_are_being_made_leaves_none(recipe: Backend) -> None:
    recipe = dataclasses.replace(recipe, setup=["sleep 30"])
    steps: asyncio.Queue[Progress] = asyncio.Queue()

    async def create() -> Sandbox:
        return await recipe.create(on_progress=steps.put_nowait)

    async with SandboxPool(create, size=3) as pool:
        waiting = asyncio.create_task(pool.acquire())
        while (await steps.get()).step != "setup":
            pass
        assert await recipe.list(recipe.labels) != []
    assert await recipe.list(recipe.labels) == []
    with pytest.raises(SandboxClosed):
        await waiting


async def test_takers_that_come_and_go_at_random_neither_lose_nor_leak(recipe: Backend) -> None:
    async with recipe.pool(size=2, concurrency=3) as pool:
        takers = [asyncio.create_task(_use(pool)) for _ in range(12)]
        await asyncio.wait(takers, return_when=asyncio.FIRST_COMPLETED)
        for taker in takers[1::2]:
            taker.cancel()
        await asyncio.wait(takers)
        names = [taker.result() for taker in takers if not taker.cancelled()]
        assert len(set(names)) == len(names) >= 6
        await pool.wait_ready()
        stats = pool.stats()
    assert (stats.ready, stats.waiting, stats.making, stats.replaced) == (2, 0, 0, 0)


async def test_a_setup_that_fails_is_raised_to_takers_and_not_repeated_in_a_hurry(
    recipe: Backend,
) -> None:
    recipe = dataclasses.replace(recipe, setup=["echo why >&2; exit 9"])
    async with recipe.pool(size=4, concurrency=1) as pool:
        for _ in range(20):
            with pytest.raises(SetupFailed, match="why"):
                await pool.acquire()
        assert pool.stats().failed <= 3


async def test_a_recipe_that_works_again_works_again(recipe: Backend, tmp_path: Path) -> None:
    recipe = dataclasses.replace(recipe, uploads=[(str(tmp_path / "late.txt"), "late.txt")])
    async with recipe.pool(size=1) as pool:
        with pytest.raises(FileNotFoundError):
            await pool.acquire()
        (tmp_path / "late.txt").write_text("here")
        while not pool.stats().ready:
            await pool._changed.wait()
        async with pool.sandbox() as sandbox:
            assert await sandbox.fs.read_text("late.txt") == "here"


async def test_a_taken_one_that_dies_is_its_takers_loss_and_not_the_pools(
    recipe: Backend, kill: Callable[[Sandbox], Awaitable[None]]
) -> None:
    async with recipe.pool(size=1) as pool:
        async with pool.sandbox() as sandbox:
            await kill(sandbox)
            with pytest.raises(SandboxLost):
                await sandbox.exec("sleep 30")
        async with pool.sandbox() as sandbox:
            assert (await sandbox.exec("true")).ok
        assert pool.stats().failed == 0
