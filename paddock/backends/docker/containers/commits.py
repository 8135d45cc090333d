"""A container's files as an image: under a name that the user gave, or for forks to begin with.

The image is first written under a name of ours, which contains the host of its maker and the name
of a lock. The maker holds that lock until the image has another name or has containers. A sweep
removes the images of makers that were killed, and those whose forks are all gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paddock._concurrency import acquire, finish, in_background, interruptible
from paddock.backends.docker.containers import owner
from paddock.backends.docker.containers.removal import remove
from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.images import recipes
from paddock.backends.docker.images.once import locked
from paddock.backends.docker.images.store import FORKS, identity, inspect, remove_unnamed
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from docker import APIClient

    from paddock.backends.docker.engine.client import Engine

__all__ = [
    "Made",
    "committed",
    "host_prefix",
    "keep",
    "reference_of",
    "release",
    "standing_still",
    "sweep",
]

COMMIT_DEADLINE = 600.0
"""Seconds for the engine to write a container's files: a disk's pace."""

HOST = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
REFERENCE = re.compile(
    rf"(?:(?=[^/]*[.:]){HOST}(?:\.{HOST})*(?::\d+)?/)?"
    rf"{COMPONENT}(?:/{COMPONENT})*(?P<tag>:\w[\w.-]{{0,127}})?",
    re.ASCII,
)
"""The name of an image as engines accept it: only a registry has dots, a port or capitals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The users that made a container's files.

    Its commands ran as `user`; `changed` says that they could replace its Python.
    """

    user: str | None
    changed: bool


def reference_of(name: str) -> str:
    """`name` with a tag. Raises `ConfigError` for what no image can be called."""
    match = REFERENCE.fullmatch(name)
    if match is None:
        raise ConfigError(f"snapshot: {name!r} is not a name for an image, such as work:monday")
    return name if match["tag"] else f"{name}:latest"


async def keep(engine: Engine, container: str, reference: str, made: Made) -> None:
    """Give a container's files a name. Remove the snapshot that had the name, unless it is used.

    On a failure or cancellation the name belongs to the same image as before.
    """

    async def give_back(before: Mapping[str, Any] | None) -> None:
        if before is None:
            await _remove(engine, reference)
            return
        taken = await identity(engine, reference)
        await _tag(engine, before["Id"], reference)
        if taken is not None:
            await remove_unnamed(engine, taken)

    async with committed(engine, container, {recipes.LABEL: reference}, made) as image:
        before = await acquire(_rename(engine, image, reference), give_back)
    if before and (before["Config"]["Labels"] or {}).get(recipes.LABEL) == reference:
        await finish(remove_unnamed(engine, before["Id"]))


async def _rename(engine: Engine, image: str, reference: str) -> dict[str, Any] | None:
    """Return what the engine reports of the image that had the name before."""
    async with locked(f"{engine.endpoint.url} {reference}"):
        before = await inspect(engine, reference)
        await _tag(engine, image, reference)
    await _remove(engine, image)
    return before


async def _tag(engine: Engine, image: str, reference: str) -> None:
    repository, _, tag = reference.rpartition(":")
    await engine.call(f"naming {reference}", engine.client.tag, image, repository, tag)


@contextlib.asynccontextmanager
async def committed(
    engine: Engine, container: str, labels: Mapping[str, str], made: Made
) -> AsyncIterator[str]:
    """Write a container's files as an image under a name of ours; no sweep removes it before the
    end of the block. The image stays unless the block fails."""
    lock, image = await acquire(asyncio.to_thread(_claim), _unclaim)
    # An engine that writes a large image answers late: a cancelled caller does not wait for it.
    labels = {owner.CHANGED_LABEL: "yes" if made.changed else "", **labels}
    writing = in_background(_commit(engine, container, image, labels, made.user))
    try:
        await finish(interruptible(asyncio.shield(writing)))
        yield image
    except BaseException:
        if writing.done():
            await finish(_discard(engine, image, lock))
        else:
            in_background(_discard_written(engine, image, lock, writing))
        raise
    lock.release()


async def _discard(engine: Engine, image: str, lock: owner.OwnerLock) -> None:
    with contextlib.suppress(EngineError):
        await remove(lock, functools.partial(_remove, engine, image))


async def _discard_written(
    engine: Engine, image: str, lock: owner.OwnerLock, writing: asyncio.Task[None]
) -> None:
    try:
        await asyncio.wait([writing])
    except BaseException:
        lock.abandon()  # the reaper or a sweep removes what the engine still writes
        raise
    await _discard(engine, image, lock)


def _claim() -> tuple[owner.OwnerLock, str]:
    lock = owner.OwnerLock.take()
    return lock, f"{host_prefix()}{lock.name}"


async def _unclaim(claim: tuple[owner.OwnerLock, str]) -> None:
    claim[0].release()


def host_prefix() -> str:
    """Return the beginning of the names of images that are written from this host."""
    return f"{FORKS}:{owner.host_digest()}-"


async def _commit(
    engine: Engine, container: str, image: str, labels: Mapping[str, str], user: str | None
) -> None:
    """Write the image, with no command to start and without a sandbox's labels."""
    labels = {**dict.fromkeys(owner.LABELS, ""), recipes.LABEL: image, **labels}
    repository, _, tag = image.partition(":")
    patient = await engine.with_timeout(COMMIT_DEADLINE)
    async with standing_still(engine, container):
        await patient.call(
            f"taking a snapshot of {container}",
            patient.client.commit,
            container,
            repository=repository,
            tag=tag,
            conf={"NetworkDisabled": False},  # a build on the image would have no network either
            changes=[
                "ENTRYPOINT []",
                "CMD []",
                *([f"USER {user}"] if user else []),
                *(f"LABEL {key}={json.dumps(value)}" for key, value in labels.items()),
            ],
            deadline=COMMIT_DEADLINE,
        )


def standing_still(engine: Engine, container: str) -> AbstractAsyncContextManager[None]:
    """Hold a lock against `resume`: the engine pauses a container while it writes its files."""
    return locked(f"{engine.endpoint.url} {container}")


async def release(engine: Engine, image: str) -> None:
    """Remove the image of a container that is gone, if it was made for forks and is unused.

    While forks are being made of it, it belongs to the task that makes them.
    """
    if image.startswith(f"{FORKS}:") and not await asyncio.to_thread(_is_being_used, image):
        await _remove(engine, image)


def _is_being_used(image: str) -> bool:
    prefix = host_prefix()
    return image.startswith(prefix) and owner.is_alive(image.removeprefix(prefix))


async def sweep(engine: Engine) -> list[str]:
    """Remove the images of this host that have neither a maker nor a container; return them."""
    left = await engine.call("looking for images of forks", _abandoned, engine.client)
    return [image for image in left if await _remove(engine, image)]


def _abandoned(client: APIClient) -> list[str]:
    prefix = host_prefix()
    names = [name for image in client.images(FORKS) for name in image["RepoTags"] or ()]
    ours = [name for name in names if name.startswith(prefix)]
    return [name for name in ours if not _is_being_used(name)]


async def _remove(engine: Engine, image: str) -> bool:
    """Remove a name, and the layers that nothing else needs; return False if it is gone or used."""
    try:
        await engine.call(f"removing {image}", engine.client.remove_image, image)
    except EngineError as error:
        if error.status not in (404, 409):
            raise
        return False
    return True
