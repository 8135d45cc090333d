"""A batch whose engine goes away, for a while and for good, and whose sandboxes are killed.

`make stress` runs it with 300 tasks and an outage of a minute.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from paddock import BatchGaveUp, Fleet
from paddock.backends.docker.engine.client import Engine, EngineError
from paddock.runtime.fleet.attempts import TASK_LABEL
from tests.e2e.docker.ours import RECIPE

if TYPE_CHECKING:
    from pathlib import Path

    from paddock import DockerBackend, Sandbox, TaskResult
    from tests.e2e.docker.proxy import EngineProxy

COUNT = int(os.environ.get("PADDOCK_FLEET_TASKS", "30"))
OUTAGE = float(os.environ.get("PADDOCK_OUTAGE_SECONDS", "5"))
"""Seconds that the engine is away, from when the batch has paused on."""

PATIENCE = 200 + 7 * COUNT
"""Seconds for so many containers, on a machine ten times as busy as ours."""

TASKS = [{"id": f"t{number}", "n": number} for number in range(COUNT)]


@pytest.fixture
def backend(engine_proxy: EngineProxy, tmp_path: Path) -> DockerBackend:
    return dataclasses.replace(RECIPE, host=f"unix://{tmp_path / 'docker.sock'}")


async def solve(sandbox: Sandbox, task: Any) -> int:
    return int((await sandbox.exec(["echo", str(task["n"])], check=True)).stdout)


async def run(fleet: Fleet, engine_proxy: EngineProxy, *, back: bool) -> dict[str, TaskResult[Any]]:
    """Let the engine go away at half of the tasks, and come `back` after the outage."""
    results: dict[str, TaskResult[Any]] = {}
    returning: asyncio.Task[None] | None = None
    async with asyncio.timeout(PATIENCE), fleet:
        async for result in fleet.map(solve, TASKS):
            results[result.key] = result
            if len(results) == COUNT // 2:
                engine_proxy.refusing = True
                engine_proxy.cut()
                if back:
                    returning = asyncio.create_task(_return(fleet, engine_proxy))
        if returning is not None:
            await returning
    return results


async def _return(fleet: Fleet, engine_proxy: EngineProxy) -> None:
    while (await fleet.progress()).paused is None:  # noqa: ASYNC110 - a batch has no event for it
        await asyncio.sleep(0.05)
    await asyncio.sleep(OUTAGE)  # this is the outage
    engine_proxy.refusing = False


def check(results: dict[str, TaskResult[Any]]) -> None:
    assert {key: (each.result, each.fault) for key, each in results.items()} == {
        f"t{number}": (number, None) for number in range(COUNT)
    }


async def test_an_outage_is_nobodys_fault(
    backend: DockerBackend, engine_proxy: EngineProxy, tmp_path: Path
) -> None:
    check(await run(Fleet(backend, out=tmp_path / "run", limit=4), engine_proxy, back=True))


async def test_an_engine_that_is_gone_for_good_ends_the_batch_which_is_resumed(
    backend: DockerBackend, engine_proxy: EngineProxy, tmp_path: Path
) -> None:
    fleet = Fleet(backend, out=tmp_path / "run", limit=4, give_up_after=0.5)
    with pytest.raises(BatchGaveUp, match="no Docker Engine answers"):
        await run(fleet, engine_proxy, back=False)
    engine_proxy.refusing = False
    async with (
        asyncio.timeout(PATIENCE),
        Fleet(backend, out=tmp_path / "run", resume=True) as fleet,
    ):
        check({result.key: result async for result in fleet.map(solve)})


async def test_sandboxes_that_are_killed_at_random_cost_no_task(
    base_image: str, tmp_path: Path
) -> None:
    chance, killed = random.Random(7), Counter[str]()
    engine = await Engine.connect()

    async def kill() -> None:
        """Kill a container now and then, each task's at most twice."""
        while killed.total() < COUNT // 3:
            there = await RECIPE.list(dict(RECIPE.labels))
            ready = [each for each in there if killed[each.labels[TASK_LABEL]] < 2]
            if not ready:
                await asyncio.sleep(0)
                continue
            victim = chance.choice(ready)
            try:
                await engine.call("killing", engine.client.kill, victim.id)
            except EngineError:  # it ended before
                continue
            killed[victim.labels[TASK_LABEL]] += 1

    async def slowly(sandbox: Sandbox, task: Any) -> int:
        await sandbox.exec("sleep 0.5", check=True)
        return await solve(sandbox, task)

    async with asyncio.timeout(PATIENCE), Fleet(RECIPE, out=tmp_path / "run", limit=4) as fleet:
        killing = asyncio.create_task(kill())
        results = {result.key: result async for result in fleet.map(slowly, TASKS)}
        killing.cancel()
        await asyncio.wait([killing])
    assert killed.total() > 2
    check(results)
    assert not await RECIPE.list(dict(RECIPE.labels))
