"""Synchronous functions in threads: what hangs holds up nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import subprocess
import sys
import threading

import pytest

from paddock.runtime.core.threads import Threads

PATIENCE = 60
"""Seconds that something which has to happen may take on a busy machine."""


class Hung:
    """A function that returns when it is released."""

    def __init__(self) -> None:
        self.begun, self.release, self.ended = (threading.Event() for _ in range(3))

    def __call__(self) -> str:
        self.begun.set()
        self.release.wait(PATIENCE)
        self.ended.set()
        return "late"


async def left_behind(threads: Threads) -> Hung:
    """Return a function whose caller was cancelled while it ran."""
    hung = Hung()
    task = asyncio.create_task(threads.run(hung, name="hung"))
    assert await asyncio.to_thread(hung.begun.wait, PATIENCE)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return hung


async def test_one_that_was_left_behind_gives_its_place_to_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    threads = Threads(most=2)
    hung, other = await left_behind(threads), Hung()
    assert "hung was cancelled, but cannot be stopped: it still runs" in caplog.text
    running = asyncio.create_task(threads.run(other, name="other"))
    assert await asyncio.to_thread(other.begun.wait, PATIENCE)
    async with asyncio.timeout(PATIENCE):
        assert await threads.run(lambda: "third", name="third") == "third"
    other.release.set()
    assert await running == "late"
    hung.release.set()
    assert await asyncio.to_thread(hung.ended.wait, PATIENCE)


async def test_one_that_waits_when_it_is_cancelled_never_runs() -> None:
    threads = Threads(most=1)
    first, second = Hung(), Hung()
    running = asyncio.create_task(threads.run(first, name="first"))
    assert await asyncio.to_thread(first.begun.wait, PATIENCE)
    waiting = asyncio.create_task(threads.run(second, name="second"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    first.release.set()
    assert await running == "late"
    assert await threads.run(lambda: "next", name="next") == "next"
    assert not second.begun.is_set()


async def test_too_many_that_were_left_behind_are_an_error_until_they_end() -> None:
    threads = Threads(most=1)
    hung = await left_behind(threads)
    with pytest.raises(RuntimeError, match="too many synchronous functions still run"):
        await threads.run(lambda: "never", name="never")
    hung.release.set()
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(RuntimeError):
                assert await threads.run(lambda: "again", name="again") == "again"
                return


@pytest.mark.parametrize("error", [ValueError("x"), StopIteration("x"), SystemExit("x")])
async def test_what_a_function_raises_reaches_its_caller_and_nobody_else(
    error: BaseException,
) -> None:
    def fail() -> None:
        raise error

    expected = ValueError if isinstance(error, ValueError) else RuntimeError
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(expected, match="x"):
            await Threads().run(fail, name="fail")


def test_a_child_of_fork_has_threads_of_its_own() -> None:
    threads = Threads()
    assert asyncio.run(threads.run(lambda: 1, name="parent")) == 1  # idle here, and not there
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, str(asyncio.run(threads.run(lambda: 2, name="child"))).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as answer:
        assert select.select([answer], [], [], PATIENCE)[0]
        assert answer.read() == b"2"
    os.waitpid(child, 0)


EXITS = """
import asyncio, threading
from paddock.runtime.core.threads import run_in_thread
begun = threading.Event()

def hang():
    begun.set()
    threading.Event().wait()

async def main():
    task = asyncio.create_task(run_in_thread(hang, name="hang"))
    while not begun.is_set():
        await asyncio.sleep(0)
    print("done")

asyncio.run(main())
"""


def test_one_that_hangs_holds_up_no_exit() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXITS], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout == "done\n"
    assert "hang was cancelled, but cannot be stopped" in done.stderr
