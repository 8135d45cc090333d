"""The images that Paddock made on an engine; they have a label and a name of ours."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.images import recipes
from paddock.backends.images import ImageInfo
from paddock.errors import ConfigError
from paddock.image import bundle

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from paddock.backends.docker.engine.client import Engine

__all__ = [
    "FORKS",
    "find_images",
    "identity",
    "inspect",
    "list_images",
    "remove_image",
    "remove_unnamed",
]

FORKS = "paddock-fork"
"""The repository of images that forks begin with."""
REPOSITORIES = (recipes.REPOSITORY, bundle.REPOSITORY, FORKS)
"""An image that a user builds on one of ours inherits its label, but not its name."""


async def list_images(engine: Engine) -> list[ImageInfo]:
    """Return all images of ours, newest first. Raise `EngineError`."""
    found = await engine.call(
        "listing images", engine.client.images, filters={"label": recipes.LABEL}
    )
    infos = [info for image in found for info in _infos(image)]
    return sorted(infos, key=lambda info: info.created, reverse=True)


async def find_images(engine: Engine, names: Sequence[str]) -> list[str]:
    """Return the references of images of ours, given by recipe, digest or reference.

    Raise `ConfigError` for a name that none of ours has, or that several have.
    """
    there = {info.reference for info in await list_images(engine)}
    return list(dict.fromkeys(_find(there, name) for name in names))


async def remove_image(engine: Engine, name: str) -> str:
    """Remove an image of ours, see `find_images`; return its reference.

    Its layers are removed unless another image needs them. Raise `EngineError` if containers still
    use it.
    """
    (reference,) = await find_images(engine, [name])
    await engine.call(f"removing {reference}", engine.client.remove_image, reference)
    return reference


async def inspect(engine: Engine, reference: str) -> dict[str, Any] | None:
    """Return what the engine reports of an image; None if there is none. Raise `EngineError`."""
    try:
        found: dict[str, Any] = await engine.call(
            f"looking for {reference}", engine.client.inspect_image, reference
        )
    except EngineError as error:
        if error.status == 404:
            return None
        raise
    return found


async def identity(engine: Engine, reference: str) -> str | None:
    """Return the id of an image; None if there is none. Raise `EngineError`."""
    found = await inspect(engine, reference)
    return None if found is None else str(found["Id"])


async def remove_unnamed(engine: Engine, image_id: str) -> None:
    """Remove an image whose name went to another; it stays while something needs it."""
    try:
        found = await engine.call("looking at an image", engine.client.inspect_image, image_id)
        if not found["RepoTags"]:
            await engine.call("removing an image", engine.client.remove_image, image_id)
    except EngineError as error:
        if error.status not in (404, 409):
            raise


def _find(there: set[str], name: str) -> str:
    wanted = {name, *(f"{repository}:{name}" for repository in REPOSITORIES)}
    match sorted(there & wanted):
        case [one]:
            return one
        case []:
            raise ConfigError(f"{name}: no image that Paddock made has this name")
        case several:
            raise ConfigError(f"{name!r} may be any of {', '.join(several)}")


def _infos(image: dict[str, Any]) -> Iterator[ImageInfo]:
    for reference in image["RepoTags"] or ():
        if reference.partition(":")[0] in REPOSITORIES:
            yield ImageInfo(
                reference=reference,
                label=image["Labels"][recipes.LABEL],
                id=image["Id"],
                size=image["Size"],
                created=datetime.fromtimestamp(image["Created"], UTC),
            )
