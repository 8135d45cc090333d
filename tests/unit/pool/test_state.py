"""What a pool decides, over plain data and without waiting."""

from __future__ import annotations

import asyncio

from paddock.backends.pool import BACKOFF, BACKOFF_MAX, LOOK, Idle, PoolState
from tests.unit.pool.empty import Empty


def state(*, size: int = 2, concurrency: int = 4, max_age: float | None = None) -> PoolState:
    return PoolState(size=size, concurrency=concurrency, max_age=max_age)


def taker() -> asyncio.Future[Idle]:
    return asyncio.get_running_loop().create_future()


async def test_as_many_are_made_as_are_missing_within_the_bound() -> None:
    book = state(size=6, concurrency=4)
    assert book.settle(0.0).make == 4
    assert book.settle(0.0).make == 0
    book.on_made(Empty("a"), 1.0)
    assert book.settle(1.0).make == 1
    assert (book.making, len(book.idle)) == (4, 1)


async def test_takers_are_served_in_the_order_they_came_oldest_sandbox_first() -> None:
    book = state(size=2)
    first, second = taker(), taker()
    book.settle(0.0)
    book.waiting.extend([first, second])
    book.on_made(Empty("a"), 1.0)
    book.on_made(Empty("b"), 2.0)
    handed = book.settle(2.0).handed
    assert [(who, one.sandbox.id) for who, one in handed] == [(first, "a"), (second, "b")]


async def test_waiting_takers_count_as_missing() -> None:
    book = state(size=1, concurrency=8)
    book.waiting.extend([taker(), taker(), taker()])
    assert book.settle(0.0).make == 4


async def test_a_cancelled_taker_is_passed_over() -> None:
    book = state(size=1)
    book.settle(0.0)
    gone, there = taker(), taker()
    book.waiting.extend([gone, there])
    gone.cancel()
    book.on_made(Empty("a"), 1.0)
    assert [who for who, _ in book.settle(1.0).handed] == [there]


async def test_what_takers_did_not_wait_for_is_taken_down() -> None:
    book = state(size=1, concurrency=8)
    impatient = taker()
    book.waiting.append(impatient)
    assert book.settle(0.0).make == 2
    impatient.cancel()
    book.on_made(Empty("a"), 1.0)
    book.on_made(Empty("b"), 2.0)
    decision = book.settle(2.0)
    assert [one.id for one in decision.unfit] == ["a"]
    assert [one.sandbox.id for one in book.idle] == ["b"]
    assert decision.make == 0


async def test_a_dead_one_is_never_handed_out_but_replaced() -> None:
    book = state(size=1)
    book.settle(0.0)
    dead = Empty("a")
    book.on_made(dead, 1.0)
    dead.dead = True
    book.waiting.append(taker())
    decision = book.settle(2.0)
    assert (decision.handed, decision.unfit, decision.make) == ([], [dead], 2)
    assert book.replaced == 1


async def test_one_that_is_too_old_is_replaced_and_the_moment_is_known_ahead() -> None:
    book = state(size=1, max_age=3.0)
    book.settle(0.0)
    old = Empty("a")
    book.on_made(old, 1.0)
    assert book.settle(1.0).unfit == []
    assert book.look_again(1.0) == 3.0
    decision = book.settle(4.0)
    assert (decision.unfit, decision.make, book.replaced) == ([old], 1, 1)


async def test_being_handed_back_unseen_makes_nothing_younger() -> None:
    book = state(size=1, max_age=3.0)
    book.settle(0.0)
    book.on_made(Empty("a"), 1.0)
    book.waiting.append(taker())
    ((_, one),) = book.settle(1.0).handed
    book.on_returned(one)
    assert (book.taken, book.settle(4.0).unfit) == (0, [one.sandbox])


async def test_a_failure_reaches_takers_once_nothing_under_way_can_serve_them() -> None:
    book = state(size=1, concurrency=2)
    waiting = taker()
    book.waiting.append(waiting)
    assert book.settle(0.0).make == 2
    book.on_failed(OSError(1, "one"), started=0.0, now=1.0)
    assert book.settle(1.0).refused == []
    book.on_failed(OSError(2, "two"), started=0.0, now=1.0)
    assert book.settle(1.0).refused == [waiting]
    late = taker()
    book.waiting.append(late)
    assert book.settle(1.1).refused == [late]


async def test_after_failures_one_attempt_at_a_time_is_made_later_and_later() -> None:
    book = state(size=8, concurrency=4)
    now = 100.0
    book.settle(now)
    for _ in range(4):  # of one round: they count as one failure
        book.on_failed(OSError(), started=now, now=now)
    waits = []
    for _ in range(10):
        wait = book.look_again(now)
        while wait == LOOK:  # it looks at the idle ones, of which there are none
            now += wait
            assert book.settle(now).make == 0
            wait += book.look_again(now)
        start = book._not_before
        assert book.settle(start - 0.001).make == 0
        assert book.settle(start).make == 1
        waits.append(start - now)
        now = start
        book.on_failed(OSError(), started=now, now=now)
    assert waits[0] == BACKOFF
    assert waits[1] == BACKOFF * 2
    assert book._not_before - now == BACKOFF_MAX


async def test_one_success_brings_back_the_full_pace() -> None:
    book = state(size=8, concurrency=4)
    book.settle(0.0)
    for _ in range(4):
        book.on_failed(OSError(), started=0.0, now=0.0)
    assert book.settle(BACKOFF).make == 1
    book.on_made(Empty("a"), 1.0)
    assert book.settle(1.0).make == 4
    assert not book.hopeless


async def test_time_is_never_waited_for_in_a_tight_loop() -> None:
    book = state(size=1, max_age=1.0)
    book.settle(0.0)
    book.on_failed(OSError(), started=0.0, now=0.0)
    for now in (0.0, 0.4, BACKOFF, 0.6):  # with an attempt under way after its moment has come
        book.settle(now)
        assert book.look_again(now) > 0
