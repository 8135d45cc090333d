"""What a test makes on an engine that others use too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paddock.backends.docker import DockerBackend, commits, owner

if TYPE_CHECKING:
    from paddock.backends.docker.engine import Engine

__all__ = ["RECIPE", "forks", "names"]

RECIPE = DockerBackend(network="none")


async def names(engine: Engine) -> set[str]:
    """The containers whose owner is this test or a child of it, by where their locks are."""
    ours = {"label": f"{owner.PLACE_LABEL}={owner.place()}"}
    found = await engine.call("listing", engine.client.containers, all=True, filters=ours)
    return {container["Names"][0] for container in found}


async def forks(engine: Engine) -> list[str]:
    """The images of this test that are nobody's but its forks'."""
    names = await engine.call("listing", engine.client.images, commits.REPOSITORY)
    found = [name for image in names for name in image["RepoTags"] or ()]
    return [name for name in found if name.startswith(commits.place_prefix())]
