"""Connections are shared by those who use the same service in the same event loop."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from paddock.runtime.models._shared import Shared


class Connection:
    def __init__(self) -> None:
        self.closed = threading.Event()

    async def aclose(self) -> None:
        self.closed.set()


class Maker:
    """Makes connections, and keeps count."""

    def __init__(self) -> None:
        self.made: list[Connection] = []

    async def __call__(self) -> Connection:
        await asyncio.sleep(0)
        self.made.append(Connection())
        return self.made[-1]


async def test_all_users_of_one_key_get_one_connection_and_the_last_closes_it() -> None:
    make = Maker()
    users = [Shared("key", make) for _ in range(20)]
    found = await asyncio.gather(*(user.get() for user in users))
    assert found == [make.made[0]] * 20
    for user in users[:-1]:
        await user.aclose()
        await user.aclose()
    assert not make.made[0].closed.is_set()
    await users[-1].aclose()
    assert make.made[0].closed.is_set()
    assert len(make.made) == 1


async def test_more_users_than_one_connection_serves_quickly_get_another_one() -> None:
    make = Maker()
    users = [Shared("key", make, most_users=3) for _ in range(5)]
    found = await asyncio.gather(*(user.get() for user in users))
    assert [found.count(each) for each in make.made] == [3, 2]
    for user in users[:3]:
        await user.aclose()
    assert [each.closed.is_set() for each in make.made] == [True, False]
    for user in users[3:]:
        await user.aclose()
    assert make.made[1].closed.is_set()


async def test_another_key_is_another_connection() -> None:
    make = Maker()
    one, other = Shared("one", make), Shared("other", make)
    assert await one.get() is not await other.get()
    await one.aclose()
    await other.aclose()


async def test_a_user_may_come_back() -> None:
    make = Maker()
    user = Shared("key", make)
    await user.get()
    await user.aclose()
    assert await user.get() is make.made[1]
    await user.aclose()
    assert all(each.closed.is_set() for each in make.made)


async def test_a_failure_reaches_all_and_the_next_tries_again() -> None:
    made: list[ValueError | Connection] = [ValueError("no"), Connection()]

    async def make() -> Connection:
        await asyncio.sleep(0)
        thing = made.pop(0)
        if isinstance(thing, ValueError):
            raise thing
        return thing

    users = [Shared("key", make) for _ in range(3)]
    failed = await asyncio.gather(*(user.get() for user in users), return_exceptions=True)
    assert [str(each) for each in failed] == ["no"] * 3
    await users[0].get()
    for user in users:
        await user.aclose()


def test_each_event_loop_has_its_own_and_closes_it_at_its_end() -> None:
    make = Maker()
    user = Shared("key", make)
    for _ in range(2):
        asyncio.run(_use(user))
    first, second = make.made
    assert first is not second
    assert first.closed.is_set()
    assert second.closed.is_set()


def test_loops_in_threads_share_nothing() -> None:
    make = Maker()
    user = Shared("key", make)
    threads = [threading.Thread(target=lambda: asyncio.run(_use(user))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(make.made)) == 4


async def test_a_user_that_is_forgotten_gives_its_part_up() -> None:
    make = Maker()
    user = Shared("key", make)
    await user.get()
    del user
    gc.collect()
    async with asyncio.timeout(60):
        await asyncio.to_thread(make.made[0].closed.wait)


async def _use(user: Shared[Connection]) -> None:
    await user.get()


@pytest.mark.parametrize("waits", [0, 1])
async def test_cancelling_the_only_user_while_it_is_made_leaves_nothing(waits: int) -> None:
    make = Maker()
    user = Shared("key", make)
    task = asyncio.create_task(user.get())
    for _ in range(waits):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await user.aclose()
    assert all(each.closed.is_set() for each in make.made)
