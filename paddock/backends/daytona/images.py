"""What is in a sandbox, as Daytona takes it: a Dockerfile and the files that it copies."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Any

from paddock._concurrency import finish
from paddock.backends.daytona.archives import ARCHIVE, is_lossy, unpacking, write_archive
from paddock.backends.daytona.failures import sdk
from paddock.errors import ConfigError, Unsupported
from paddock.image import Image
from paddock.image.folder import build_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from paddock.image.bundle import Member

__all__ = ["daytona_image"]

ADD = re.compile(r"^\s*ADD\s", re.MULTILINE | re.IGNORECASE)


@contextlib.asynccontextmanager
async def daytona_image(image: Any) -> AsyncIterator[Any]:
    """`image` for the SDK: a reference or an image of its own as it is, one of ours compiled.

    The files that one of ours copies are where the SDK looks for them within the block.
    """
    if not isinstance(image, Image):
        yield image
        return
    async with build_folder() as folder:
        yield await finish(asyncio.to_thread(_compiled, image, folder))


def _compiled(image: Image, folder: Path) -> Any:
    text, members = _whole(image)
    lossy = is_lossy(members)
    needs_files = True
    if lossy:
        write_archive(members, folder / ARCHIVE)
        text, needs_files = unpacking(text)
    if needs_files:
        for member in members:
            member.write(folder / member.name)
    dockerfile = folder / "Dockerfile.paddock"
    dockerfile.write_text(text)
    native = sdk().Image.from_dockerfile(dockerfile)
    dockerfile.unlink()  # it is no part of the context
    if lossy or ADD.search(text):  # the SDK looks for COPY alone
        from daytona.common.image import Context

        native._context_list = [Context(source_path=str(folder), archive_path=".")]
    return native


def _whole(image: Image) -> tuple[str, list[Member]]:
    """Dockerfile and context of an image, with those of the Dockerfile that it builds on:
    there is nowhere to build that one first."""
    bundle = image.bundle()
    if (origin := bundle.origin) is not None and (origin.digested or origin.secrets):
        raise Unsupported(
            "target, build_args, secrets and platform of a Dockerfile", backend="daytona"
        )
    if image.parent is None:
        return bundle.dockerfile, list(bundle.members)
    text, members = _whole(image.parent)
    own = [line for line in bundle.dockerfile.splitlines() if not line.startswith("FROM ")]
    more = [member for member in bundle.members if member.name != bundle.name]
    if clash := {member.name for member in members} & {member.name for member in more}:
        raise ConfigError(f"{clash.pop()} is copied by the Dockerfile and by the steps after it")
    return "\n".join([text.rstrip(), *own, ""]), [*members, *more]
