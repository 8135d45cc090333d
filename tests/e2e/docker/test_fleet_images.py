"""The image of a batch on a real engine: built once, or an error of the image."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

import pytest

from paddock import BuildFailed, Fleet
from tests.e2e.docker.ours import RECIPE

if TYPE_CHECKING:
    from paddock import Sandbox
    from paddock.image import Image
    from tests.e2e.image_bench import Bench

pytestmark = pytest.mark.docker

PATIENCE = 50
"""Seconds for eight containers and a build, on a machine ten times as busy as ours."""


async def stamps(bench: Bench, image: Image) -> list[str]:
    """What the image's build left, as eight tasks see it, four at once."""
    bench.made.add(await asyncio.to_thread(image.reference))

    async def read(sandbox: Sandbox, task: int) -> str:
        return (await sandbox.exec("cat /made", check=True)).stdout

    recipe = dataclasses.replace(RECIPE, image=image)
    async with asyncio.timeout(PATIENCE), Fleet(recipe, limit=4) as fleet:
        results = [result async for result in fleet.map(read, range(8))]
    assert [result.error for result in results] == [None] * 8
    return [str(result.result) for result in results]


async def test_all_tasks_of_a_batch_share_one_build(bench: Bench) -> None:
    # Builds at the same time would not find the step of another in the engine's cache.
    image = bench.image.run_commands("sleep 1; cat /proc/sys/kernel/random/uuid > /made")
    found = await stamps(bench, image)
    assert len(set(found)) == 1


async def test_a_build_that_fails_ends_the_batch_with_its_error(bench: Bench) -> None:
    image = bench.image.run_commands("echo so bad >&2; exit 7")
    with pytest.raises(BuildFailed, match="so bad"):
        await stamps(bench, image)
