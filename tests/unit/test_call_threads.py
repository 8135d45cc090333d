"""Threads for calls that may hang: a bound for those at work, and for those that hang."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from paddock import _call_threads as threads
from paddock._call_threads import CallThreads

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE = 60.0
NAME = "test-calls"


@pytest.fixture
def answer() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def alive(name: str = NAME) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def hang(calls: CallThreads, answer: threading.Event) -> None:
    """Begin a call that hangs, and leave it when it has begun."""
    began = threading.Event()

    def work() -> None:
        began.set()
        answer.wait(DEADLINE)

    call = calls.submit(work)
    assert began.wait(DEADLINE)
    calls.leave(call)


def test_calls_that_hang_hold_up_no_others_and_their_threads_are_bounded(
    answer: threading.Event,
) -> None:
    calls = CallThreads(2, NAME)
    for _ in range(4):
        hang(calls, answer)
        if len(alive()) <= 3:
            done = calls.submit(lambda: "answered")
            assert done.result(DEADLINE) == "answered"
    waiting = calls.submit(lambda: None)
    assert len(alive()) == 4
    calls.leave(waiting)
    assert waiting.cancelled()  # all threads hang: its caller had a deadline
    hung = alive()
    answer.set()
    assert calls.submit(lambda: "again").result(DEADLINE) == "again"
    calls.leave(waiting)
    assert len(hung) == 4


def test_no_more_calls_run_at_a_time_than_there_may_be(answer: threading.Event) -> None:
    calls = CallThreads(2, NAME)
    running = threading.Semaphore(0)

    def work() -> None:
        running.release()
        answer.wait(DEADLINE)

    futures = [calls.submit(work) for _ in range(5)]
    for _ in range(2):
        assert running.acquire(timeout=DEADLINE)
    assert sum(future.running() for future in futures) == 2
    answer.set()
    for future in futures:
        future.result(DEADLINE)


def test_threads_without_work_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "IDLE_TIMEOUT", 0.01)
    name = f"{NAME}-that-end"  # those of other tests wait for longer
    calls = CallThreads(2, name)
    assert calls.submit(lambda: 1).result(DEADLINE) == 1
    for thread in alive(name):
        thread.join(DEADLINE)
    assert alive(name) == []
    assert calls.submit(lambda: 2).result(DEADLINE) == 2
