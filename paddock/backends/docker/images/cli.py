"""Finds a docker CLI that can ask an engine for BuildKit."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from paddock.backends.docker.images.programs import ask

__all__ = ["INSTALL", "DockerCli", "find_cli"]

VERSION = re.compile(r"Docker version (\d+)\.(\d+)")
ITSELF = range(18, 23)
"""Major versions that speak to BuildKit themselves; newer ones leave it to buildx."""
TIMEOUT = 20.0
"""Seconds for a CLI to say its version: some 0.1 s, and plugins are started for it."""
INSTALL = (
    "BuildKit is asked for by the docker CLI: install docker.io (Debian 12), docker-cli and "
    "docker-buildx (Debian 13), or docker-ce-cli and docker-buildx-plugin (Docker's own packages)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerCli:
    """A program, and the words by which it builds with BuildKit."""

    program: str
    build: tuple[str, ...]


async def find_cli() -> DockerCli | None:
    """Return the first docker CLI on PATH that can build with BuildKit; None if there is none."""
    for folder in os.get_exec_path():
        program = Path(folder) / "docker"
        if os.access(program, os.X_OK) and (cli := await _recognized(str(program))):
            return cli
    return None


async def _recognized(program: str) -> DockerCli | None:
    match = VERSION.match(await _output(program, "--version"))
    if match is None:  # podman's, for one
        return None
    if int(match[1]) in ITSELF:
        return DockerCli(program=program, build=("build",))
    if "buildx" in await _output(program, "buildx", "version"):
        # The builder of this name is the engine's own, which sees its images.
        return DockerCli(program=program, build=("buildx", "build", "--builder=default", "--load"))
    return None


async def _output(program: str, *words: str) -> str:
    """Return what it prints; nothing if it fails or takes too long."""
    try:
        code, output = await ask(program, *words, timeout=TIMEOUT)
    except (TimeoutError, OSError):
        return ""
    return "" if code else output
