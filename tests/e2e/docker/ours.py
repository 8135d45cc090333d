"""What a test makes on an engine that others use too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paddock.backends.docker import DockerBackend, owner

if TYPE_CHECKING:
    from paddock.backends.docker.engine import Engine

__all__ = ["RECIPE", "forks", "names"]

RECIPE = DockerBackend(network="none")


async def names(engine: Engine) -> set[str]:
    """The containers whose owner is this test or a child of it, by where their locks are."""
    ours = {"label": f"{owner.PLACE_LABEL}={owner.place()}"}
    found = await engine.call("listing", engine.client.containers, all=True, filters=ours)
    return {container["Names"][0] for container in found}


async def forks(engine: Engine) -> list[Any]:
    """The images that forks of this test were made from."""
    ours = {"label": f"{owner.FORK_LABEL}={owner.place()}"}
    found: list[Any] = await engine.call("listing", engine.client.images, filters=ours)
    return found
