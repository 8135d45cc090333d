"""The builders of the docker CLI, to compare ours with: what they make of a context."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import tarfile
from typing import TYPE_CHECKING, Any

from paddock.backends.docker.images.cli import find_cli

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from paddock.backends.docker.engine.client import Engine

__all__ = ["BUILDERS", "build", "command", "remove", "tree"]

BUILDERS = ("classic", "BuildKit")
PATIENCE = 120
NOT_THE_IMAGE = ("proc", "sys", "dev", ".dockerenv", "etc/hosts", "etc/hostname", "etc/resolv.conf")


async def command(*words: str, env: Mapping[str, str] | None = None) -> str:
    """Run the docker CLI; return what it prints, and fail the test where it fails."""
    cli = await find_cli()
    assert cli is not None, "there is no docker CLI that builds with BuildKit"
    process = await asyncio.create_subprocess_exec(
        cli.program,
        *words,
        env={**os.environ, **(env or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, error = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 0, error.decode()
    return output.decode().strip()


async def build(builder: str, context: Path, *options: str, env: Mapping[str, str]) -> str:
    """Return the id of the image that one of `BUILDERS` makes."""
    kit = "1" if builder == "BuildKit" else "0"
    told = {**env, "DOCKER_BUILDKIT": kit}
    return (await command("build", "--quiet", *options, str(context), env=told)).splitlines()[-1]


async def remove(engine: Engine, image: str) -> None:
    await asyncio.to_thread(engine.client.remove_image, image, noprune=False)


async def tree(engine: Engine, image: str, *places: str) -> dict[str, str]:
    """Return what is below `places` in an image: kinds, modes, owners, contents, by name."""
    return await asyncio.to_thread(_tree, engine.client, image, places)


def _tree(client: Any, image: str, places: tuple[str, ...]) -> dict[str, str]:
    container = client.create_container(image, command=["/nothing"])["Id"]
    try:
        found: dict[str, str] = {}
        for place in places:
            pieces, _ = client.get_archive(container, place)
            found |= _members(b"".join(pieces), place)
        return found
    finally:
        client.remove_container(container, force=True)


def _members(archive: bytes, place: str) -> dict[str, str]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        for each in members:
            name = f"{place}: {each.name}"
            if place == "/" and each.name.strip("./").startswith(NOT_THE_IMAGE):
                continue
            file = members.extractfile(each) if each.isreg() else None
            content = hashlib.sha256(file.read()).hexdigest() if file else each.linkname
            kind = each.type.decode()
            found[name] = f"{kind} {each.mode:o} {each.uid}:{each.gid} {content}"
    return found
