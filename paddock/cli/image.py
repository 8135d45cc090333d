"""``paddock image``: the images that sandboxes of a container backend begin with."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from paddock.cli import options
from paddock.cli.imaging import image_progress
from paddock.cli.running import run
from paddock.cli.tables import local_minute, table_console
from paddock.cli.text import plain
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.backends.images import Images
    from paddock.image.settings import BuildSettings

__all__ = ["image"]

DOCKER = "docker"
image = typer.Typer(no_args_is_help=True, help="Make, list and remove images for sandboxes.")

Host = Annotated[
    str | None,
    typer.Option("--host", "-H", help="The engine's address. Default: as docker finds it."),
]
Where = Annotated[
    str,
    typer.Option(
        "--backend", "-b", help="The backend that has the images: docker, daytona, or another one."
    ),
]
BuildNetwork = Annotated[
    str | None,
    typer.Option(
        "--network",
        envvar="PADDOCK_BUILD_NETWORK",
        help="The network of a build's commands, as for docker build; host, for one.",
    ),
]
BuildArgs = Annotated[
    list[str] | None,
    typer.Option(
        "--build-arg",
        metavar="KEY=VALUE",
        help="For a Dockerfile that declares it. Proxies and the indexes of pip and uv are "
        "taken from the environment. Repeatable.",
    ),
]
Authorities = Annotated[
    Path | None,
    typer.Option(
        "--ca-bundle",
        metavar="FILE",
        envvar="SSL_CERT_FILE",
        help="Certificates that the base image trusts in addition to Mozilla's.",
    ),
]


@image.command(name="list")
def list_(host: Host = None, backend: Where = DOCKER, as_json: options.AsJson = False) -> None:
    """List the images that Paddock made on an engine, or the snapshots of sandboxes in Daytona."""
    infos = run(_images(backend, host).list())
    if as_json:
        print(json.dumps([dataclasses.asdict(info) for info in infos], indent=2, default=str))
        return
    if not infos:
        hint = " `paddock image build python` makes one." if backend == DOCKER else ""
        typer.echo(f"No images yet.{hint}", err=True)
        return
    table = Table("image", "size", "created", box=None)
    for info in infos:
        table.add_row(Text(plain(info.reference)), decimal(info.size), local_minute(info.created))
    table_console().print(table)


@image.command()
def build(
    name: Annotated[str, typer.Argument(metavar="NAME", help="base, python or agent.")],
    network: BuildNetwork = None,
    build_arg: BuildArgs = None,
    ca_bundle: Authorities = None,
    host: Host = None,
) -> None:
    """Build a recipe, also if it is there already, and what it begins with, if that is missing.

    Afterwards `DockerBackend(image="paddock:NAME")` uses it. `base` begins with a Debian
    from a registry, or with what `paddock image bootstrap` made.

        paddock image build python --network host
    """
    settings = _settings(network, build_arg, ca_bundle)
    images = _images(DOCKER, host)

    async def work() -> str:
        with image_progress() as tell:
            return await images.build(
                name.removeprefix("paddock:"), settings=settings, on_progress=tell
            )

    typer.echo(run(work()))


@image.command()
def rm(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...", help="The images' names, as `paddock image list` shows them."
        ),
    ],
    host: Host = None,
    backend: Where = DOCKER,
) -> None:
    """Remove images that Paddock made, and no other."""
    run(_remove(_images(backend, host), names))


@image.command()
def bootstrap(
    suite: Annotated[
        str | None, typer.Option("--suite", help="The Debian release. Default: bookworm.")
    ] = None,
    mirror: Annotated[
        str | None, typer.Option("--mirror", metavar="URL", help="Default: Debian's own.")
    ] = None,
    network: BuildNetwork = None,
    build_arg: BuildArgs = None,
    ca_bundle: Authorities = None,
    host: Host = None,
) -> None:
    """Make `paddock:base` from Debian packages, where no registry is reached.

    Needs `mmdebstrap` (Debian and Ubuntu have it), and root or user namespaces. The other
    recipes then build on it.
    """
    images, settings = _images(DOCKER, host), _settings(network, build_arg, ca_bundle)

    async def work() -> str:
        with image_progress() as tell:
            return await images.bootstrap(
                suite=suite, mirror=mirror, settings=settings, on_progress=tell
            )

    typer.echo(run(work()))


def _images(backend: str, host: str | None) -> Images:
    """Return the images of a backend; `host` is for the one that has engines."""
    from paddock.backends.base import get_backend
    from paddock.backends.docker import DockerBackend

    kind = get_backend(backend)
    if host is None:
        return kind().images
    if not issubclass(kind, DockerBackend):
        raise ConfigError(f"--host: the backend {backend!r} has no engine to choose")
    return kind(host=host).images


def _settings(
    network: str | None, args: list[str] | None, authorities: Path | None
) -> BuildSettings:
    from paddock.image.settings import BuildSettings

    found = BuildSettings.from_environment()
    given = dict(options.parse_variable(text, "--build-arg") for text in args or ())
    return dataclasses.replace(
        found, network=network, args={**found.args, **given}, authorities=authorities
    )


async def _remove(images: Images, names: Sequence[str]) -> None:
    for reference in await images.find(names):
        typer.echo(await images.remove(reference))
