"""Images on an engine: those that are missing are pulled or built, each once.

`paddock.image` decides what an image is made of; `operations` makes the requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import re
from typing import TYPE_CHECKING

from paddock._frozen import FrozenMapping
from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.images import recipes
from paddock.backends.docker.images.bootstrap import DebianSource, import_debian
from paddock.backends.docker.images.builders import BuildRequest, builder_for
from paddock.backends.docker.images.buildkit import build_with_buildkit
from paddock.backends.docker.images.logins import find_logins
from paddock.backends.docker.images.once import Once, locked
from paddock.backends.docker.images.operations import build_bundle, pull
from paddock.backends.docker.images.store import identity, inspect, remove_unnamed
from paddock.backends.images import unwatched
from paddock.errors import BuildFailed, ConfigError
from paddock.image import Image
from paddock.image.instructions import read_source
from paddock.image.needs import images_of
from paddock.image.settings import BuildSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping

    from paddock.backends.docker.engine.client import Engine
    from paddock.backends.images import ImageProgress, ImageProgressCallback
    from paddock.image.bundle import Bundle

__all__ = ["bootstrap", "build_recipe", "ensure"]

NO_REGISTRY = (
    "where no registry is reached, `paddock image bootstrap` makes paddock:base from Debian "
    "packages, and images can begin with that"
)

TAKES_IMAGE = re.compile(r"^FROM\s|--from=", re.IGNORECASE)

_once: Once[ImageProgress] = Once()


async def ensure(
    engine: Engine,
    image: Image | str,
    *,
    on_progress: ImageProgressCallback | None = None,
    settings: BuildSettings | None = None,
) -> str:
    """See `Images.ensure`; other processes of this user wait for the same build, too.

    A reference is taken if the engine has it; ``paddock:NAME`` is a recipe of ours; every other
    one is pulled. An `Image` is built under its digest, and again when its steps' base has become
    another image; one without steps is its name.
    """
    tell = on_progress or unwatched
    settings = settings or BuildSettings.from_environment()
    if isinstance(image, Image):
        if image.name is None:
            return await _ensure_built(engine, image, tell, settings)
        image = image.name
    is_there = functools.partial(_is_there, engine, image)
    if await is_there():
        return image
    if (name := recipes.recipe_of(image)) is not None:
        build = functools.partial(_build_recipe, engine, name, settings)
        await _once_missing(engine, image, is_there, build, tell)
    else:
        fetch = functools.partial(_pull, engine, image, settings)
        await _once_missing(engine, image, is_there, fetch, tell)
    return image


async def build_recipe(
    engine: Engine,
    name: str,
    *,
    on_progress: ImageProgressCallback | None = None,
    settings: BuildSettings | None = None,
) -> str:
    """See `Images.build`. Callers that want the image meanwhile wait for this build."""
    tell = on_progress or unwatched
    settings = settings or BuildSettings.from_environment()
    async with locked(_key(engine, f"{recipes.REPOSITORY}:{name}")):
        return await _build_recipe(engine, name, settings, tell)


async def _build_recipe(
    engine: Engine, name: str, settings: BuildSettings, tell: ImageProgressCallback
) -> str:
    reference = f"{recipes.REPOSITORY}:{name}"
    if recipes.recipe_of(reference) is None:
        raise ConfigError(f"{reference} is no recipe; `paddock image bootstrap` makes it")
    bundle = await asyncio.to_thread(recipes.recipe_bundle, name, settings.authorities)
    if name == "base" and await identity(engine, recipes.DEBIAN):
        args = FrozenMapping({**settings.args, "DEBIAN": recipes.DEBIAN})
        settings = dataclasses.replace(settings, args=args)
    async with _replacing(engine, reference):
        await _build(engine, bundle, reference, {recipes.LABEL: name}, settings, tell)
    return reference


async def bootstrap(
    engine: Engine,
    source: DebianSource,
    *,
    on_progress: ImageProgressCallback | None = None,
    settings: BuildSettings | None = None,
) -> str:
    """See `Images.bootstrap`."""
    tell = on_progress or unwatched
    settings = settings or BuildSettings.from_environment()
    async with _replacing(engine, recipes.DEBIAN):
        await import_debian(engine, source, tell)
        return await build_recipe(engine, "base", on_progress=tell, settings=settings)


async def _ensure_built(
    engine: Engine, image: Image, tell: ImageProgressCallback, settings: BuildSettings
) -> str:
    bundle = await asyncio.to_thread(image.bundle)
    reference = bundle.reference
    is_there = functools.partial(_is_there, engine, reference, bundle.base)

    async def build(tell: ImageProgressCallback) -> None:
        labels = {recipes.LABEL: bundle.digest}
        if image.parent is not None:
            base = await ensure(engine, image.parent, on_progress=tell, settings=settings)
            labels[recipes.BASE_LABEL] = await identity(engine, base) or ""
        async with _replacing(engine, reference):
            await _build(engine, bundle, reference, labels, settings, tell)

    if not await is_there():
        await _once_missing(engine, reference, is_there, build, tell)
    return reference


async def _is_there(engine: Engine, reference: str, base: str | None = None) -> bool:
    """Return whether the engine has the image, made on the image called `base` if that exists."""
    found = await inspect(engine, reference)
    if found is None or base is None:
        return found is not None
    below = await identity(engine, base)
    return below in (None, (found["Config"]["Labels"] or {}).get(recipes.BASE_LABEL))


async def _build(
    engine: Engine,
    bundle: Bundle,
    tag: str,
    labels: Mapping[str, str],
    settings: BuildSettings,
    tell: ImageProgressCallback,
) -> None:
    args = settings.args_for(bundle.dockerfile)
    if bundle.origin is not None:
        args |= bundle.origin.build_args
    source = read_source(bundle.dockerfile)
    images = images_of(source, args)
    logins = await find_logins([*images, *filter(None, [source.syntax])], settings.auth)
    cli = await builder_for(engine, bundle, source, logins)
    for base in images:
        if base.startswith(f"{recipes.REPOSITORY}:") and base != recipes.DEBIAN:
            await ensure(engine, base, on_progress=tell, settings=settings)
    request = BuildRequest(tag=tag, labels=labels, args=args, network=settings.network)
    try:
        if cli is None:
            await build_bundle(engine, bundle, request, logins, tell)
        else:
            await build_with_buildkit(engine, cli, bundle, request, logins, tell)
    except BuildFailed as error:
        if TAKES_IMAGE.search(error.step):
            error.hint = f"{logins}; {NO_REGISTRY}"
        raise


@contextlib.asynccontextmanager
async def _replacing(engine: Engine, reference: str) -> AsyncIterator[None]:
    """Remove the image that had the name before, after the block."""
    before = await identity(engine, reference)
    yield
    if before is not None:
        await remove_unnamed(engine, before)


async def _pull(
    engine: Engine, image: str, settings: BuildSettings, tell: ImageProgressCallback
) -> None:
    logins = await find_logins([image], settings.auth)
    try:
        await pull(engine, image, logins, tell, platform=settings.platform)
    except EngineError as error:
        raise EngineError(f"{error}; {logins}; {NO_REGISTRY}", status=error.status) from None


async def _once_missing(
    engine: Engine,
    reference: str,
    is_there: Callable[[], Awaitable[bool]],
    make: Callable[[ImageProgressCallback], Coroutine[None, None, object]],
    tell: ImageProgressCallback,
) -> None:
    key = _key(engine, reference)

    async def work(tell: ImageProgressCallback) -> None:
        async with locked(key):
            if not await is_there():
                await make(tell)

    await _once.run(key, work, tell)


def _key(engine: Engine, reference: str) -> str:
    """Return the name of the lock that the process holds which makes this image."""
    return f"{engine.endpoint.url} {reference}"
