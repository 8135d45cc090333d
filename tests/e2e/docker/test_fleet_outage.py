"""A batch whose engine goes away: for a while, and for good."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from paddock import BatchGaveUp, Fleet
from tests.e2e.docker.ours import RECIPE

if TYPE_CHECKING:
    from pathlib import Path

    from paddock import DockerBackend, Sandbox, TaskResult
    from tests.e2e.docker.proxy import EngineProxy

PATIENCE = 200
"""Seconds for 30 containers, on a machine ten times as busy as ours."""

TASKS = [{"id": f"t{number}", "n": number} for number in range(30)]


@pytest.fixture
def backend(engine_proxy: EngineProxy, tmp_path: Path) -> DockerBackend:
    return dataclasses.replace(RECIPE, host=f"unix://{tmp_path / 'docker.sock'}")


async def solve(sandbox: Sandbox, task: Any) -> int:
    return int((await sandbox.exec(["echo", str(task["n"])], check=True)).stdout)


async def run(fleet: Fleet, engine_proxy: EngineProxy, *, back: bool) -> dict[str, TaskResult[Any]]:
    """Let the engine go away after ten tasks, and come `back` when the batch has paused."""
    results: dict[str, TaskResult[Any]] = {}
    returning: asyncio.Task[None] | None = None
    async with asyncio.timeout(PATIENCE), fleet:
        async for result in fleet.map(solve, TASKS):
            results[result.key] = result
            if len(results) == 10:
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
    engine_proxy.refusing = False


def check(results: dict[str, TaskResult[Any]]) -> None:
    assert {key: (each.result, each.fault) for key, each in results.items()} == {
        f"t{number}": (number, None) for number in range(30)
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
