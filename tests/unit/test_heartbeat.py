"""Heartbeats come whatever the event loop does, and end with what they are for."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

from paddock.backends.daytona.lease import LeaseRenewal
from paddock.backends.guest.link import Link
from paddock.backends.heartbeat import Heartbeats

DEADLINE = 60.0


class Counter:
    """Counts beats, and the threads that they come from."""

    def __init__(self) -> None:
        self.beats = 0
        self.threads: set[int] = set()
        self.enough = threading.Event()

    def beat(self) -> None:
        self.beats += 1
        self.threads.add(threading.get_ident())
        if self.beats >= 3:
            self.enough.set()


async def test_they_come_while_the_loop_is_blocked() -> None:
    counter = Counter()
    heartbeat = Heartbeats().start(counter.beat, 0.01)
    assert counter.enough.wait(DEADLINE)  # which blocks the loop
    heartbeat.stop()
    assert threading.get_ident() not in counter.threads


def test_one_thread_serves_all_and_ends_with_the_last() -> None:
    beats = Heartbeats()
    counters = [Counter() for _ in range(20)]
    started = [beats.start(counter.beat, 0.01) for counter in counters]
    assert all(counter.enough.wait(DEADLINE) for counter in counters)
    assert len({thread for counter in counters for thread in counter.threads}) == 1
    thread = beats._thread
    assert thread is not None
    for one in started:
        one.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    again = Counter()
    heartbeat = beats.start(again.beat, 0.01)
    assert again.enough.wait(DEADLINE)
    heartbeat.stop()


def test_one_whose_loop_was_closed_is_stopped_and_the_others_are_not() -> None:
    beats = Heartbeats()
    failed = threading.Event()

    def fail() -> None:
        failed.set()
        raise RuntimeError("Event loop is closed")

    broken = beats.start(fail, 0.01)
    assert failed.wait(DEADLINE)
    counter = Counter()
    other = beats.start(counter.beat, 0.01)
    assert counter.enough.wait(DEADLINE)
    other.stop()
    assert broken.stopped


class Account:
    """Counts by which way a lease in Daytona is renewed."""

    def __init__(self) -> None:
        self.here = self.elsewhere = 0
        self.changed = threading.Event()

    async def renew(self) -> None:
        self.here += 1
        self.changed.set()

    async def refresh_elsewhere(self, sandbox_id: str) -> None:
        assert sandbox_id == "box"
        self.elsewhere += 1
        self.changed.set()


async def test_a_lease_in_daytona_is_renewed_by_the_loop_or_by_a_thread() -> None:
    account: Any = Account()
    link = Link()
    renewal = LeaseRenewal(account, SimpleNamespace(id="box"), link, account, 0.02)
    async with asyncio.timeout(DEADLINE):
        while account.here < 2:  # noqa: ASYNC110 - the event is for a thread
            await asyncio.sleep(0.01)
    # The loop of a busy machine may have been late before, too.
    here, enough = account.here, account.elsewhere + 2
    end = time.monotonic() + DEADLINE
    while account.elsewhere < enough and time.monotonic() < end:
        time.sleep(0.01)  # noqa: ASYNC251 - the loop is held up, on purpose
    assert account.elsewhere >= enough
    assert account.here == here
    await renewal.aclose()
    link.close()
