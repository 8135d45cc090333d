"""A pool over sandboxes whose making the test holds."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from paddock.backends import pool as pool_module
from paddock.backends.pool import SandboxPool
from paddock.errors import ConfigError, SandboxClosed
from tests.unit.pool.empty import Empty

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox


class Maker:
    """Makes a sandbox for each `let`, in order; counts what was begun and what was given up."""

    def __init__(self) -> None:
        self.sandboxes: list[Empty] = []
        self.begun = 0
        self.most = 0
        self.cancelled = 0
        self._under_way = 0
        self._outcomes: asyncio.Queue[Exception | None] = asyncio.Queue()
        self.beginning = asyncio.Event()

    def let(self, count: int = 1) -> None:
        for _ in range(count):
            self._outcomes.put_nowait(None)

    def fail(self, error: Exception) -> None:
        self._outcomes.put_nowait(error)

    async def create(self) -> Sandbox:
        self.begun += 1
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        self.beginning.set()
        try:
            outcome = await self._outcomes.get()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self._under_way -= 1
        if outcome is not None:
            raise outcome
        self.sandboxes.append(Empty(str(len(self.sandboxes))))
        return self.sandboxes[-1]

    async def begins(self) -> None:
        """Wait until the next making has begun."""
        self.beginning.clear()
        await self.beginning.wait()

    @property
    def up(self) -> list[str]:
        return [one.id for one in self.sandboxes if not one.down]


@pytest.fixture
async def maker() -> Maker:
    return Maker()


async def test_an_empty_pool_gives_its_takers_what_is_made_next_in_their_order(
    maker: Maker,
) -> None:
    async with SandboxPool(maker.create, size=1) as pool:
        order: list[str] = []

        async def take(name: str) -> None:
            order.append(f"{name}{(await pool.acquire()).id}")

        takers = [asyncio.create_task(take(name)) for name in "abc"]
        await maker.begins()
        maker.let(3)
        await asyncio.gather(*takers)
        assert order == ["a0", "b1", "c2"]
        assert maker.most == 4
        assert pool.stats().taken == 3


async def test_taking_what_is_ready_waits_for_nothing(maker: Maker) -> None:
    maker.let(2)
    async with SandboxPool(maker.create, size=2) as pool:
        await pool.wait_ready()
        taking = pool.acquire()
        with pytest.raises(StopIteration) as ended:
            taking.send(None)
        assert isinstance(ended.value.value, Empty)


async def test_no_more_are_made_at_once_than_allowed(maker: Maker) -> None:
    async with SandboxPool(maker.create, size=8, concurrency=3) as pool:
        await maker.begins()
        maker.let(8)
        await pool.wait_ready()
        assert (maker.most, maker.begun) == (3, 8)


async def test_no_sandbox_is_handed_out_twice(maker: Maker) -> None:
    maker.let(40)
    async with SandboxPool(maker.create, size=3) as pool:

        async def use() -> str:
            async with pool.sandbox() as sandbox:
                await asyncio.sleep(0)
                return sandbox.id

        names = await asyncio.gather(*(use() for _ in range(30)))
    assert len(set(names)) == 30
    assert maker.up == []


async def test_closing_takes_down_what_is_ready_and_what_is_being_made_and_nothing_taken(
    maker: Maker,
) -> None:
    maker.let(3)
    async with SandboxPool(maker.create, size=3) as pool:
        await pool.wait_ready()
        taken = await pool.acquire()
        await maker.begins()
    assert maker.up == [taken.id]
    assert maker.cancelled == 1
    await pool.aclose()
    await taken.aclose()


async def test_takers_of_a_pool_that_closes_are_told(maker: Maker) -> None:
    async with SandboxPool(maker.create, size=1) as pool:
        waiting = [asyncio.create_task(pool.acquire()), asyncio.create_task(pool.wait_ready())]
        await maker.begins()
    for task in waiting:
        with pytest.raises(SandboxClosed):
            await task
    with pytest.raises(SandboxClosed):
        await pool.acquire()
    with pytest.raises(SandboxClosed):
        await pool.wait_ready()


async def test_a_pool_that_was_not_opened_gives_nothing(maker: Maker) -> None:
    pool = SandboxPool(maker.create, size=1)
    with pytest.raises(SandboxClosed):
        await pool.acquire()
    await pool.aclose()
    assert maker.begun == 0


async def test_a_pool_can_be_taken_from_before_it_has_begun_to_work(maker: Maker) -> None:
    maker.let(2)
    async with SandboxPool(maker.create, size=1) as pool, pool.sandbox() as sandbox:
        assert sandbox.id == "0"


@pytest.mark.parametrize("steps", range(6))
async def test_a_taker_cancelled_at_any_step_neither_keeps_nor_loses_a_sandbox(
    maker: Maker, steps: int
) -> None:
    async with SandboxPool(maker.create, size=1, concurrency=1) as pool:
        await maker.begins()
        first = asyncio.create_task(pool.acquire())
        await asyncio.sleep(0)
        second = asyncio.create_task(pool.acquire())
        maker.let(2)
        for _ in range(steps):
            await asyncio.sleep(0)
        cancelled = first.cancel()
        await asyncio.wait([first])
        sandbox = await second
        if cancelled and first.cancelled():
            assert sandbox.id == "0"
        else:
            assert (first.result().id, sandbox.id) == ("0", "1")
            await first.result().aclose()
        await sandbox.aclose()
    assert maker.up == []


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("after", range(4))
async def test_a_taker_cancelled_while_the_pool_closes_leaks_nothing(
    maker: Maker, before: int, after: int
) -> None:
    pool = SandboxPool(maker.create, size=1, concurrency=1)
    await pool.__aenter__()
    await maker.begins()
    taking = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    closing = asyncio.create_task(pool.aclose())
    for _ in range(before):
        await asyncio.sleep(0)
    maker.let(1)
    for _ in range(after):
        await asyncio.sleep(0)
    taking.cancel()
    closing.cancel()
    await asyncio.wait([taking, closing])
    if not taking.cancelled() and taking.exception() is None:
        await taking.result().aclose()
    await pool.aclose()
    assert maker.up == []


async def test_what_the_recipe_failed_with_is_raised_to_all_that_wait(maker: Maker) -> None:
    error = FileNotFoundError(2, "no such upload")
    async with SandboxPool(maker.create, size=1, concurrency=1) as pool:
        waiting = [asyncio.create_task(pool.acquire()) for _ in range(3)]
        waiting.append(asyncio.create_task(pool.acquire()))
        await maker.begins()
        maker.fail(error)
        for task in waiting:
            with pytest.raises(FileNotFoundError):
                await task
        with pytest.raises(FileNotFoundError):
            await pool.wait_ready()
        assert (maker.begun, pool.stats().failed, pool.stats().waiting) == (1, 1, 0)


async def test_a_recipe_that_works_again_is_noticed_without_a_taker(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "BACKOFF", 0.001)
    async with SandboxPool(maker.create, size=2, concurrency=1) as pool:
        for _ in range(3):
            await maker.begins()
            maker.fail(OSError(111, "refused"))
        await maker.begins()
        maker.let(2)
        await pool.wait_ready()
        assert (maker.begun, pool.stats().failed, pool.stats().ready) == (5, 3, 2)


async def test_one_that_dies_while_idle_is_replaced_before_anybody_asks(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "LOOK", 0.001)
    maker.let(1)
    async with SandboxPool(maker.create, size=1) as pool:
        await pool.wait_ready()
        maker.sandboxes[0].dead = True
        assert pool.stats().ready == 0
        await maker.begins()
        maker.let(1)
        assert (await pool.acquire()).id == "1"
        assert (maker.sandboxes[0].down, pool.stats().replaced) == (True, 1)


async def test_idle_ones_are_replaced_when_they_are_too_old(maker: Maker) -> None:
    maker.let(1)
    async with SandboxPool(maker.create, size=1, max_age=0.01) as pool:
        began = time.monotonic()
        await pool.wait_ready()
        await maker.begins()
        assert time.monotonic() - began >= 0.01
        maker.let(1)
        assert (await pool.acquire()).id == "1"


async def test_one_that_cannot_be_taken_down_hinders_none_of_the_others(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker.let(3)

    async def refuse() -> None:
        raise OSError(111, "the engine is gone")

    with pytest.raises(ExceptionGroup) as caught:
        async with SandboxPool(maker.create, size=3) as pool:
            await pool.wait_ready()
            monkeypatch.setattr(maker.sandboxes[0], "_close", refuse)
    assert [type(error) for error in caught.value.exceptions] == [ConnectionRefusedError]
    assert maker.up == ["0"]


async def test_tidying_up_after_one_that_was_lost_may_fail_unheard(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker.let(2)

    async def refuse() -> None:
        raise OSError(111, "the engine is gone")

    async with SandboxPool(maker.create, size=1) as pool:
        await pool.wait_ready()
        monkeypatch.setattr(maker.sandboxes[0], "_close", refuse)
        maker.sandboxes[0].dead = True
        assert (await pool.acquire()).id == "1"


@pytest.mark.parametrize("wrong", [{"size": 0}, {"size": 1, "concurrency": 0}])
def test_a_pool_of_nothing_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        SandboxPool(Maker().create, **wrong)


@pytest.mark.parametrize("max_age", [0.0, -1.0])
def test_an_age_has_to_be_above_zero(max_age: float) -> None:
    with pytest.raises(ConfigError):
        SandboxPool(Maker().create, size=1, max_age=max_age)
