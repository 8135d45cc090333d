"""Decides which of an engine's builders builds an image, before anything is built.

What Paddock compiles itself is built by the classic builder, which takes one request. A Dockerfile
of the user's is built by BuildKit, where a docker CLI can ask for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.images.cli import INSTALL, find_cli
from paddock.backends.docker.images.logins import registry_of
from paddock.backends.docker.images.store import identity
from paddock.errors import ConfigError, Unsupported
from paddock.image.dockerfile import own_ignore_file
from paddock.image.needs import needs_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.backends.docker.engine.client import Engine
    from paddock.backends.docker.images.cli import DockerCli
    from paddock.backends.docker.images.logins import Logins
    from paddock.image.bundle import Bundle
    from paddock.image.instructions import Source
    from paddock.image.steps import FromDockerfile

__all__ = ["BuildRequest", "builder_for", "numbers_of"]

VERSION = re.compile(r"(\d+)\.(\d+)")
OTHER_ENGINES = frozenset({"Podman Engine"})
"""They speak the Engine API, and have a builder of their own behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What is asked of a builder, besides the Dockerfile and its context."""

    tag: str
    labels: Mapping[str, str]
    args: Mapping[str, str]
    network: str | None


async def builder_for(
    engine: Engine, bundle: Bundle, source: Source, logins: Logins
) -> DockerCli | None:
    """Return the CLI that builds with BuildKit; None for the classic builder.

    Raise `Unsupported`, naming line, feature and version, if no builder of this engine can, and
    `ConfigError` for a Dockerfile that begins with no image.
    """
    if (origin := bundle.origin) is None:
        return None
    if source.syntax is None and not any(each.keyword == "FROM" for each in source.instructions):
        # The BuildKit of Docker 20.10 takes the whole engine down with it if there is only an ARG.
        raise ConfigError(f"from_dockerfile: {origin.path} has no FROM")
    version = await _docker_version(engine)
    if version is None:
        if origin.secrets or origin.platform:
            raise Unsupported("secrets= and platform= on an engine not Docker's", backend="docker")
        return None
    needs = needs_of(source)
    if source.syntax is not None:
        await _check_syntax(engine, source, logins, origin, version)
    else:
        missing = [str(need) for need in needs if need.engine > numbers_of(version)]
        if missing:
            raise _refused(origin, [f"{each}; this engine is {version}" for each in missing])
    cli = await find_cli()
    if cli is None and (wanted := [*map(str, needs), *_needs_of_request(origin, source)]):
        raise _refused(origin, wanted, hint=INSTALL)
    return cli


async def _check_syntax(
    engine: Engine, source: Source, logins: Logins, origin: FromDockerfile, version: str
) -> None:
    """Raise `Unsupported` unless the engine has the image of a ``# syntax=``, or can pull it."""
    image = str(source.syntax)
    if await identity(engine, image):
        return
    registry = registry_of(image)
    try:
        await engine.call(
            f"asking {registry} for {image}",
            engine.client.inspect_distribution,
            image,
            auth_config=logins.of(registry),
        )
    except EngineError as error:
        line = (
            f"line {source.syntax_line}: # syntax={image} makes BuildKit pull that image, which "
            f"is not available: {error} ({logins})"
        )
        needs = [str(need) for need in needs_of(source)]
        hint = f"without line {source.syntax_line}, Docker Engine {version} uses its own BuildKit"
        raise _refused(origin, [line, *needs], hint=hint) from None


def _needs_of_request(origin: FromDockerfile, source: Source) -> list[str]:
    chosen = {"secrets=": origin.secrets, "platform=": origin.platform, "# syntax=": source.syntax}
    found = [f"{name} needs BuildKit" for name, value in chosen.items() if value]
    if (own := own_ignore_file(origin.path)).exists():
        found.append(f"{own.name} needs BuildKit")
    return found


def _refused(origin: FromDockerfile, lines: list[str], hint: str | None = None) -> Unsupported:
    what = "\n".join([f"building {origin.path}", *lines])
    return Unsupported(what, backend="docker", hint=hint)


async def _docker_version(engine: Engine) -> str | None:
    """Return the version of a Docker Engine; None for another engine, whose one builder is used."""
    told = await engine.call("asking for the version", engine.client.version)
    others = {str(each.get("Name")) for each in told.get("Components") or ()} & OTHER_ENGINES
    return None if others else str(told["Version"])


def numbers_of(version: str) -> tuple[int, int]:
    """Return the first two numbers of a version; one without any counts as the newest."""
    match = VERSION.match(version)
    return (int(match[1]), int(match[2])) if match else (1000, 0)
