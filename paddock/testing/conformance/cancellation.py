"""Cancelled at any await, once or twice: no process, file, task or descriptor is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, cast

import pytest

from paddock.errors import ExecTimeout
from paddock.testing.conformance.base import Conformance
from paddock.testing.conformance.watch import descriptors, tasks

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from paddock.sandbox import Sandbox

MARK = f"9865{os.getpid()}"
"""Seconds that the commands here sleep: it tells them from everybody else's, other tests' too."""

LEFT = f"pgrep -af 'sleep [9]{MARK[1:]}'; find . -name '.paddock-*' -o -name file ! -size 100000c"
"""Prints the processes and the files that must not be left."""

Scenario = Callable[["Sandbox", "Path"], Coroutine[Any, Any, None]]


async def _exec(sandbox: Sandbox, folder: Path) -> None:
    stubborn = f"trap '' TERM; setsid sleep {MARK} & echo out; sleep 0.02; kill -9 $!"
    await sandbox.exec(stubborn, stdin="in")


async def _timeout(sandbox: Sandbox, folder: Path) -> None:
    with contextlib.suppress(ExecTimeout):
        await sandbox.exec(f"setsid sleep {MARK} & echo out; sleep {MARK}", timeout=0.02)


async def _process(sandbox: Sandbox, folder: Path) -> None:
    async with await sandbox.start(f"setsid sleep {MARK} & read x; echo $x") as process:
        await process.send(b"said\n")
        async for _ in process.output():
            continue


async def _files(sandbox: Sandbox, folder: Path) -> None:
    await sandbox.fs.write_text("d/f", "text")
    await sandbox.fs.read_text("d/f")
    await sandbox.fs.grep("text", "d")
    await sandbox.fs.remove("d", recursive=True)


async def _transfers(sandbox: Sandbox, folder: Path) -> None:
    await sandbox.fs.upload(folder / "up", "up")
    await sandbox.fs.download("up", folder / "down")
    await sandbox.fs.remove("up", recursive=True)


SCENARIOS: dict[str, Scenario] = {
    "exec": _exec,
    "timeout": _timeout,
    "process": _process,
    "files": _files,
    "transfers": _transfers,
}


class Stepped:
    """A coroutine that is cancelled `times` times, each time when it waits again, from the
    `step`-th wait on. So the second comes in the middle of the clean-up after the first."""

    def __init__(self, inner: Coroutine[Any, Any, None], step: int, times: int) -> None:
        self._inner = inner
        self._cancelling = range(step, step + times)
        self.steps = 0

    def send(self, value: Any) -> Any:
        return self._count(self._inner.send(value))

    def throw(self, *error: Any) -> Any:
        return self._count(self._inner.throw(*error))

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, None]:
        return (yield from self._inner.__await__())

    def _count(self, waited_for: Any) -> Any:
        self.steps += 1
        if self.steps in self._cancelling:
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_soon(task.cancel)
        return waited_for


Coroutine.register(Stepped)


def _drafts(folder: Path) -> list[Path]:
    return list(folder.rglob(".paddock-*"))


class CancellationTests(Conformance):
    @pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
    @pytest.mark.parametrize("scenario", SCENARIOS)
    async def test_cancelled_at_any_await_it_leaves_nothing_behind(
        self, sandbox: Sandbox, tmp_path: Path, scenario: str, times: int
    ) -> None:
        (tmp_path / "up").mkdir()
        (tmp_path / "up" / "file").write_text("x" * 100_000)
        await SCENARIOS[scenario](sandbox, tmp_path)  # what is made once is made now
        await sandbox.exec("rm -rf up d")
        before, running = descriptors(), tasks()
        step, cancelled = 0, True
        while cancelled:
            step += 1
            stepped = Stepped(SCENARIOS[scenario](sandbox, tmp_path), step, times)
            task: asyncio.Task[None] = asyncio.create_task(cast("Any", stepped))
            async with asyncio.timeout(60):
                await asyncio.wait([task])
            cancelled = stepped.steps >= step
            if not task.cancelled():
                task.result()  # it was done already, or has not failed
            left = await sandbox.exec(LEFT)
            assert left.stdout == "", step
            assert not _drafts(tmp_path), step
            assert tasks() == running, step
        assert step > 1
        assert descriptors() == before
