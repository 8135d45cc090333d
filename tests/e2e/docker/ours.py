"""What a test makes on an engine that others use too."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from paddock.backends.docker import DockerBackend
from paddock.backends.docker.containers import commits, owner
from paddock.backends.docker.images.store import list_images

if TYPE_CHECKING:
    from paddock.backends.docker.engine.client import Engine

__all__ = ["RECIPE", "forks", "names"]

RECIPE = DockerBackend(network="none", labels={"of": secrets.token_hex(6)})
"""Its labels are of this process: test processes run beside each other."""


async def names(engine: Engine) -> set[str]:
    """The containers whose owner is this test or a child of it, by where their locks are."""
    ours = {"label": f"{owner.HOST_LABEL}={owner.host_id()}"}
    found = await engine.call("listing", engine.client.containers, all=True, filters=ours)
    return {container["Names"][0] for container in found}


async def forks(engine: Engine) -> list[str]:
    """The images of this test that are nobody's but its forks'."""
    names = [info.reference for info in await list_images(engine)]
    return [name for name in names if name.startswith(commits.host_prefix())]
