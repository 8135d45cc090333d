"""Images on an engine: those that are missing are pulled or built, each once.

What an image is made of, `paddock.image` says; how the engine is asked, `operations`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from paddock._frozen import FrozenMapping
from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.images import recipes
from paddock.backends.docker.images.bootstrap import DebianSource, import_debian
from paddock.backends.docker.images.once import Once, locked
from paddock.backends.docker.images.operations import build_bundle, pull
from paddock.backends.docker.images.store import identity, inspect, remove_unnamed
from paddock.errors import BuildFailed, ConfigError
from paddock.image import Image
from paddock.image.dockerfile import INDEX_VARIABLES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping

    from paddock.backends.docker.engine.client import Engine
    from paddock.backends.docker.images.progress import ImageProgress, ImageProgressCallback
    from paddock.image.bundle import Bundle

__all__ = ["BuildSettings", "bootstrap", "build_recipe", "ensure"]

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
ARGUMENT = re.compile(r"^\s*ARG\s+(\w+)", re.MULTILINE | re.IGNORECASE)
USER_INFO = re.compile(r"^(\w[\w+.-]*://)?[^/]*@")
"""A user and perhaps a password, at the beginning of a proxy's address."""
INDEX_NAME = re.compile(r"^[\w.-]+=(?=[\w+.-]+:)")
NO_REGISTRY = (
    "where no registry is reached, `paddock image bootstrap` makes paddock:base from Debian "
    "packages, and images can begin with that"
)

_once: Once[ImageProgress] = Once()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """How this machine builds; nothing of it is part of an image's digest.

    - `network`: that of a build's commands, as ``docker build --network``.
    - `args`: build arguments. Each is passed to a Dockerfile that declares it, proxies to
      all, with their passwords. An engine records all but proxies in the image's history.
    - `authorities`: a PEM file; ``paddock:base`` is made to trust those in it that are
      not among Mozilla's.
    """

    network: str | None = None
    args: Mapping[str, str] = field(default_factory=FrozenMapping)
    authorities: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "args", FrozenMapping(self.args))

    @classmethod
    def from_environment(cls) -> BuildSettings:
        """Read the standard variables: proxies, pip's and uv's indexes, SSL_CERT_FILE.

        A Dockerfile may be anybody's: proxies are passed to it without user and password. The
        address of an index with a password, or of a path of this machine, is ignored.
        """
        proxies = [name for upper in PROXIES for name in (upper, upper.lower())]
        args = {
            name: USER_INFO.sub(r"\1", value) for name in proxies if (value := os.environ.get(name))
        }
        for name in INDEX_VARIABLES:
            if (value := os.environ.get(name)) and all(map(_is_public, value.split())):
                args[name] = value
        authorities = os.environ.get("SSL_CERT_FILE")
        return cls(
            network=os.environ.get("PADDOCK_BUILD_NETWORK") or None,
            args=args,
            authorities=Path(authorities) if authorities else None,
        )

    def args_for(self, dockerfile: str) -> dict[str, str]:
        """What a build of this text is told."""
        wanted = {*ARGUMENT.findall(dockerfile)}
        return {
            name: value
            for name, value in self.args.items()
            if name in wanted or name.upper() in PROXIES
        }


def _is_public(address: str) -> bool:
    """Whether an index, as ``URL`` or ``NAME=URL``, has no password and is not a path here."""
    try:
        url = urlsplit(INDEX_NAME.sub("", address))
    except ValueError:
        return False
    return url.scheme != "file" and "@" not in url.netloc and not url.query


async def ensure(
    engine: Engine,
    image: Image | str,
    *,
    on_progress: ImageProgressCallback | None = None,
    settings: BuildSettings | None = None,
) -> str:
    """A reference to `image` that exists on the engine, which is pulled or built if missing.

    A reference is taken if the engine has it; ``paddock:NAME`` is a recipe of ours;
    every other one is pulled. An `Image` is built under its digest, and again when what
    its steps are done on has become another image; one without steps is its name. All who
    want the same image at once wait for one build, other processes of this user included.

    Raises `BuildFailed` for a step that fails, `ConfigError` for an image that cannot
    be right, `EngineError` for an engine or a registry that does not help. If cancelled,
    the work ends, unless somebody else waits for it too.
    """
    tell = on_progress or _ignore
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
        fetch = functools.partial(_pull, engine, image)
        await _once_missing(engine, image, is_there, fetch, tell)
    return image


async def build_recipe(
    engine: Engine, name: str, settings: BuildSettings, tell: ImageProgressCallback
) -> str:
    """Build ``paddock:NAME``, whether it is there or not; what it begins with, if missing.

    Returns its reference; raises as `ensure`. Who wants it meanwhile, waits for this build.
    """
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
    """Make ``paddock:base`` from Debian packages, without a registry; return its name.

    Raises `ConfigError` where mmdebstrap is not installed, else as `ensure`. If
    cancelled, what was there before is still there.
    """
    tell = on_progress or _ignore
    settings = settings or BuildSettings.from_environment()
    async with _replacing(engine, recipes.DEBIAN):
        await import_debian(engine, source, tell)
        return await build_recipe(engine, "base", settings, tell)


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
    """Whether the engine has it; if steps were done on `base`, and that is there, on this one."""
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
    for base in recipes.bases_of(bundle.dockerfile):
        await ensure(engine, base, on_progress=tell, settings=settings)
    try:
        await build_bundle(
            engine,
            bundle,
            tag=tag,
            labels=labels,
            args=settings.args_for(bundle.dockerfile),
            network=settings.network,
            tell=tell,
        )
    except BuildFailed as error:
        if error.step.upper().startswith("FROM "):
            error.hint = NO_REGISTRY
        raise


@contextlib.asynccontextmanager
async def _replacing(engine: Engine, reference: str) -> AsyncIterator[None]:
    """Do not leave behind what had the name before."""
    before = await identity(engine, reference)
    yield
    if before is not None:
        await remove_unnamed(engine, before)


async def _pull(engine: Engine, image: str, tell: ImageProgressCallback) -> None:
    try:
        await pull(engine, image, tell)
    except EngineError as error:
        raise EngineError(f"{error}; {NO_REGISTRY}", status=error.status) from None


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
    """What whoever makes this image holds the lock of."""
    return f"{engine.endpoint.url} {reference}"


def _ignore(event: ImageProgress) -> None:
    """Nobody watches."""
