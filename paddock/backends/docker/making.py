"""Makes sandboxes of plans; if that fails or is cancelled, nothing is left on the engine."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import TYPE_CHECKING

from paddock._concurrency import acquire
from paddock.backends.docker.containers import reaper
from paddock.backends.docker.containers.control import remove_container_and_image
from paddock.backends.docker.containers.owner import OwnerLock
from paddock.backends.docker.containers.removal import remove, watch
from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.fallback import launch
from paddock.sandbox import Sandbox

if TYPE_CHECKING:
    from paddock.backends.docker.containers.forks import Planned
    from paddock.backends.docker.engine.client import Engine

__all__ = ["make"]


async def make(engine: Engine, planned: Planned) -> Sandbox:
    """Make the sandbox that `planned` returns the plan of, given its name."""
    return await acquire(_make(engine, planned), Sandbox.aclose)


async def _make(engine: Engine, planned: Planned) -> Sandbox:
    lock = await asyncio.to_thread(_claim, engine.host)
    image = ""
    try:
        plan = await asyncio.to_thread(planned, lock.name)
        image = plan.image
        return await launch.start(engine, plan, lock, make)
    except BaseException as error:
        await _take_back(engine, lock, image, error)
        raise


def _claim(host: str | None) -> OwnerLock:
    """Claim a new name, after a reaper was started that removes what has it should we be killed."""
    reaper.start(host)
    return OwnerLock.take()


async def _take_back(engine: Engine, lock: OwnerLock, image: str, error: BaseException) -> None:
    """Remove the container that has the name of `lock`, whose making failed with `error`."""
    removal = functools.partial(remove_container_and_image, engine, lock.name, image)
    if isinstance(error, EngineError) and error.status is None:
        watch(lock, removal)  # what was asked for last may appear late
        return
    with contextlib.suppress(EngineError):
        await remove(lock, removal)
