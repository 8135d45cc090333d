"""Our containers on an engine, seen from outside: listed, found, removed, swept."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from paddock.backends.containers import describe
from paddock.backends.docker.containers import commits, owner
from paddock.backends.docker.containers.control import remove_container, remove_container_and_image
from paddock.backends.docker.containers.plan import BACKEND
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker import APIClient

    from paddock.backends.base import SandboxInfo
    from paddock.backends.docker.engine.client import Engine

__all__ = ["collect", "delete", "find", "listing"]


async def listing(engine: Engine, labels: Mapping[str, str]) -> list[SandboxInfo]:
    """Return our containers that have `labels`, in whatever state, oldest first."""
    found = await engine.call("listing sandboxes", _look, engine.client, owner.LABEL)
    found.reverse()  # the engine lists the newest first, with times in seconds
    wanted = [info for _, info in found if labels.items() <= info.labels.items()]
    return sorted(wanted, key=lambda info: info.created)


async def delete(engine: Engine, name: str) -> bool:
    """Remove a sandbox's container; return False if there is none of this name that is ours."""
    wanted = f"{owner.LABEL}={name}"
    found = await engine.call(f"looking for {name}", _look, engine.client, wanted)
    for container, info in found:
        await remove_container_and_image(engine, container, info.image or "", name)
    return bool(found)


async def find(engine: Engine, name: str) -> dict[str, Any]:
    """Return what the engine reports of the container of a sandbox.

    Raises `ConfigError` if there is none.
    """
    wanted = f"{owner.LABEL}={name}"
    found = await engine.call(f"looking for {name}", _look, engine.client, wanted)
    if not found:
        raise ConfigError(f"no sandbox of ours is called {name}")
    seen: dict[str, Any] = await engine.call(
        f"looking at {name}", engine.client.inspect_container, found[0][0]
    )
    return seen


async def collect(engine: Engine, **filters: list[str]) -> list[str]:
    """Remove the containers whose owner is gone, and the images of their forks; return their ids.

    `filters`, such as ``status=["created"]``, are the engine's and for containers. If one cannot
    be removed the others are, and then its error is raised.
    """
    what = "looking for abandoned containers"
    left = await engine.call(what, owner.abandoned, engine.client, filters)
    results = await asyncio.gather(
        *(remove_container(engine, container, name) for name, container in left.items()),
        return_exceptions=True,
    )
    images = await commits.sweep(engine)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [*left, *images]


def _look(client: APIClient, wanted: str) -> list[tuple[str, SandboxInfo]]:
    """Return our containers that have a label: their ids and what is known of them."""
    here = owner.host_id()
    found = client.containers(all=True, filters={"label": wanted})
    ours = [each for each in found if owner.is_ours(client, each)]
    return [(each["Id"], describe(each, here, backend=BACKEND)) for each in ours]
