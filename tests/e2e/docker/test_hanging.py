"""An engine that accepts and does not answer: nobody is held up, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from paddock import _concurrency
from paddock.backends.docker.containers import removal
from paddock.backends.docker.engine.client import Engine, EngineError
from paddock.backends.owner import OwnerLock
from tests.e2e.docker.ours import RECIPE, forks, names

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.backends.docker import DockerBackend
    from tests.e2e.docker.proxy import EngineProxy

pytestmark = pytest.mark.docker

DEADLINE = 25.0
"""Below the 30 s that a call has without a cancellation, and far above what this one takes."""


@pytest.fixture
def hanging(engine_proxy: EngineProxy, monkeypatch: pytest.MonkeyPatch) -> EngineProxy:
    monkeypatch.setattr(_concurrency, "CANCEL_TIMEOUT", 0.5)
    monkeypatch.setattr(removal, "INTERVAL", 0.05)
    return engine_proxy


@pytest.fixture
def recipe(hanging: EngineProxy, tmp_path: Path) -> DockerBackend:
    """Sandboxes on the engine behind the proxy."""
    return replace(RECIPE, host=f"unix://{tmp_path / 'docker.sock'}")


async def nothing_left(engine: Engine) -> None:
    async with asyncio.timeout(60):
        await asyncio.gather(*_concurrency._background)  # what is removed late
        while await names(engine) or await forks(engine):  # noqa: ASYNC110 - the engine does it
            await asyncio.sleep(0.05)


async def cancelled(task: asyncio.Task[object], hanging: EngineProxy) -> None:
    """Cancel it while the engine hangs; it has to end although the engine does not answer."""
    async with asyncio.timeout(DEADLINE):
        await hanging.hanging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    "request_",
    [
        "containers/create|DELETE ",
        "containers/create",
        "/attach|DELETE ",
        "/start ",
        "/start |DELETE ",
    ],
)
async def test_a_cancelled_create_does_not_wait_for_an_engine_that_hangs(
    engine: Engine, hanging: EngineProxy, recipe: DockerBackend, request_: str
) -> None:
    await recipe.list()
    hanging.hang(request_)
    await cancelled(asyncio.create_task(recipe.create()), hanging)
    hanging.answer()
    await nothing_left(engine)


async def test_a_cancelled_snapshot_does_not_wait_until_it_is_written(
    engine: Engine, hanging: EngineProxy, recipe: DockerBackend
) -> None:
    async with recipe.sandbox() as sandbox:
        hanging.hang("/commit")
        name = f"paddock-test-hanging:{sandbox.id}"
        await cancelled(asyncio.create_task(sandbox.snapshot(name)), hanging)
        hanging.answer()
        async with asyncio.timeout(60):
            await asyncio.gather(*_concurrency._background)  # what the engine wrote is removed
        assert await forks(engine) == []
        assert (await sandbox.exec("echo here")).stdout == "here\n"
    await nothing_left(engine)


async def test_a_close_that_fails_is_finished_later_and_may_be_tried_again(
    engine: Engine, hanging: EngineProxy, recipe: DockerBackend
) -> None:
    sandbox = await recipe.create()
    hanging.hang("DELETE ")
    closing = [asyncio.create_task(sandbox.aclose()) for _ in range(2)]
    await cancelled(closing[0], hanging)
    with pytest.raises(EngineError):
        await closing[1]
    hanging.answer()
    await sandbox.aclose()
    await sandbox.aclose()
    await nothing_left(engine)


async def test_nobody_watches_for_what_another_attempt_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(removal, "INTERVAL", 0.01)
    lock, asked = OwnerLock.take(), asyncio.Event()

    async def gone() -> bool:
        asked.set()
        return False

    removal.watch(lock, gone)
    await asked.wait()
    lock.release()
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*_concurrency._background)


async def test_an_engine_that_hangs_keeps_no_other_engine_waiting(
    engine: Engine, hanging: EngineProxy, recipe: DockerBackend
) -> None:
    hanging.hang(".")
    stuck = [asyncio.create_task(recipe.list()) for _ in range(40)]
    async with asyncio.timeout(DEADLINE):
        await hanging.hanging.wait()
        await RECIPE.list()
        assert sum(thread.name == "paddock-docker" for thread in threading.enumerate()) <= 40
        for task in stuck:
            task.cancel()
        await asyncio.wait(stuck)
    hanging.answer()
    await recipe.list()


async def test_calls_beyond_those_that_hang_keep_their_deadline(
    engine: Engine, hanging: EngineProxy, recipe: DockerBackend
) -> None:
    assert isinstance(recipe.host, str)
    there = await Engine.connect(recipe.host)
    hanging.hang(".")
    calls = [there.call("asking", there.client.version, deadline=0.5) for _ in range(60)]
    async with asyncio.timeout(DEADLINE):
        found = await asyncio.gather(*calls, return_exceptions=True)
    assert {str(each) for each in found} == {
        "asking: the Docker Engine did not answer within 0.5 s"
    }


ENDING = """
import asyncio, sys
from paddock.backends.docker import DockerBackend

async def main():
    task = asyncio.create_task(DockerBackend(network="none", host=sys.argv[1]).create())
    print("begun", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    task.cancel()
    await asyncio.wait([task])

asyncio.run(main())
"""


async def test_what_a_process_could_not_remove_before_it_ended_its_reaper_does(
    engine: Engine, hanging: EngineProxy, recipe: DockerBackend
) -> None:
    assert isinstance(recipe.host, str)
    hanging.hang("containers/create")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ENDING, recipe.host),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": tempfile.gettempdir()},
    )
    async with asyncio.timeout(DEADLINE):
        await hanging.hanging.wait()
        await process.communicate(b"\n")
    hanging.answer()
    async with asyncio.timeout(DEADLINE):
        await hanging.answered.wait()
    await nothing_left(engine)


IMPORTING = """
import asyncio, sys, threading
found = []

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("docker", "requests", "urllib3"):
            found.append((name, threading.current_thread() is threading.main_thread()))

sys.meta_path.insert(0, Finder())
from paddock.backends.docker import DockerBackend
asyncio.run(DockerBackend().list())
assert found, "docker was not imported"
print([name for name, in_loop in found if in_loop])
"""


async def test_docker_is_imported_off_the_event_loop(engine: Engine) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", IMPORTING), stdout=subprocess.PIPE
    )
    told, _ = await process.communicate()
    assert told == b"[]\n"
