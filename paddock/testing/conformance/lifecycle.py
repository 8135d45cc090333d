"""A sandbox's life: the order of its making, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import tempfile
from typing import TYPE_CHECKING

import pytest

from paddock.errors import SandboxClosed, SandboxLost, SetupFailed
from paddock.sandbox import Capability
from paddock.testing.conformance.base import KILL, Conformance, needs
from paddock.testing.conformance.watch import make_passable, tasks, traces

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from paddock.backends.base import Backend, Progress
    from paddock.sandbox import Sandbox


async def _cancel_at(task: asyncio.Task[Sandbox], step: int) -> bool:
    """Cancel `task` at its `step`th suspension; True if it ended before."""
    woken = 0
    while not task.done():
        if woken == step:
            task.cancel()
            await asyncio.wait([task])
            return not task.cancelled()
        waited = task._fut_waiter  # type: ignore[attr-defined]
        # No event says when a task reaches its next wait.
        while not task.done() and task._fut_waiter is waited:  # type: ignore[attr-defined]  # noqa: ASYNC110
            await asyncio.sleep(0)
        woken += 1
    return True


class LifecycleTests(Conformance):
    @pytest.fixture(autouse=True)
    def _own_temporary_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """This test's sandboxes have an owner of their own, so that leftovers are attributable."""
        make_passable(tmp_path)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    async def test_a_recipe_is_a_value(self, backend: Backend) -> None:
        varied = dataclasses.replace(backend, env_vars={"A": "1"}, setup=["true"])
        again = dataclasses.replace(backend, env_vars={"A": "1"}, setup=("true",))
        assert varied == again
        assert hash(varied) == hash(again)
        assert varied != backend
        with pytest.raises(dataclasses.FrozenInstanceError):
            backend.setup = ["x"]  # type: ignore[misc]

    async def test_provisioning_has_one_order(self, backend: Backend, tmp_path: Path) -> None:
        (tmp_path / "in.txt").write_text("uploaded")
        steps: list[Progress] = []
        recipe = dataclasses.replace(
            backend,
            env_vars={"A": "1"},
            uploads=[(str(tmp_path / "in.txt"), "data/in.txt")],
            setup=["cat data/in.txt > log; echo $A >> log", "pwd >> log"],
        )
        async with recipe.sandbox(on_progress=steps.append) as sandbox:
            log = await sandbox.fs.read_text("log")
        assert log == f"uploaded1\n{sandbox.working_dir}\n"
        assert {(step.done, step.total) for step in steps} <= {(None, None), (8, 8)}
        # It may be built from an image, and small files may go at once.
        told = [step.step for step in steps if step.step != "image" and step.done is None]
        assert told == ["create", "upload", "setup", "setup", "ready"]

    async def test_the_first_failing_setup_command_stops_and_leaves_nothing(
        self,
        backend: Backend,
    ) -> None:
        before = traces()
        recipe = dataclasses.replace(backend, setup=["true", "echo no >&2; exit 9", "touch never"])
        with pytest.raises(
            SetupFailed, match=r"Setup command failed \(exit 9\): echo no"
        ) as caught:
            await recipe.create()
        assert caught.value.exit_code == 9
        assert caught.value.stderr == "no\n"
        assert traces() == before

    async def test_closing_is_idempotent_and_ends_what_runs(self, backend: Backend) -> None:
        before = traces()
        sandbox = await backend.create()
        running = asyncio.create_task(sandbox.exec("setsid sleep 985000 & sleep 985001"))
        await sandbox.exec("true")
        await asyncio.gather(sandbox.aclose(), sandbox.aclose())
        await sandbox.aclose()
        with pytest.raises(SandboxClosed):
            await running
        optional: dict[Capability, Callable[[], Awaitable[object]]] = {
            Capability.FORK: sandbox.fork,
            Capability.SNAPSHOT: lambda: sandbox.snapshot("paddock-test:closed"),
            Capability.PAUSE: sandbox.pause,
            Capability.STATS: sandbox.stats,
            Capability.URL: lambda: sandbox.url(80),
        }
        for call in (
            lambda: sandbox.exec("true"),
            lambda: sandbox.fs.stat("."),
            sandbox.fs.list,
            *(optional[each] for each in optional if each in sandbox.capabilities),
        ):
            with pytest.raises(SandboxClosed):
                await call()
        assert traces() == before

    async def test_a_cancelled_close_closes(self, backend: Backend) -> None:
        before = traces()
        sandbox = await backend.create()
        closing = asyncio.create_task(sandbox.aclose())
        for _ in range(3):
            await asyncio.sleep(0)
            closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert traces() == before

    async def test_cancellation_at_every_step_of_a_creation_leaves_nothing(
        self, backend: Backend
    ) -> None:
        before = traces()
        recipe = dataclasses.replace(backend, setup=["true"])
        running = tasks()  # those of the shared sandbox, too
        step = 0
        while True:
            task = asyncio.create_task(recipe.create())
            if await _cancel_at(task, step):
                sandbox = await task
                await sandbox.aclose()
                break
            assert task.cancelled()
            step += 1
        assert step >= 2
        gc.collect()
        assert traces() == before
        assert tasks() == running

    @needs(KILL)
    async def test_a_sandbox_killed_from_outside_is_lost_at_once(self, backend: Backend) -> None:
        before = traces()
        async with backend.sandbox() as sandbox:
            running = asyncio.create_task(sandbox.exec("sleep 985000"))
            await sandbox.exec("true")
            await self.kill(sandbox)
            async with asyncio.timeout(60):
                with pytest.raises(SandboxLost):
                    await running
                with pytest.raises(SandboxLost, match=r"signal 9|from outside"):
                    await sandbox.exec("true")
                with pytest.raises(SandboxLost):
                    await sandbox.fs.read_bytes("x")
        assert traces() == before

    async def test_many_sandboxes_at_once(self, backend: Backend) -> None:
        before = traces()

        async def one(number: int) -> str:
            async with backend.sandbox() as sandbox:
                return (await sandbox.exec(f"echo {number}")).stdout.strip()

        results = await asyncio.gather(*(one(number) for number in range(12)))
        assert results == [str(number) for number in range(12)]
        assert traces() == before

    async def test_sandboxes_do_not_see_each_others_environment(self, backend: Backend) -> None:
        variables = {**backend.env_vars, "ONLY_IN_THE_FIRST": "1"}
        first = dataclasses.replace(backend, env_vars=variables)
        async with first.sandbox() as one, backend.sandbox() as other:
            assert (await one.exec("echo $ONLY_IN_THE_FIRST")).stdout == "1\n"
            assert (await other.exec("echo $ONLY_IN_THE_FIRST")).stdout == "\n"
