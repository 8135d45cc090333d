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
from paddock.cli.tables import table_console
from paddock.cli.text import plain

if TYPE_CHECKING:
    from paddock.backends.docker.images.bootstrap import DebianSource
    from paddock.backends.docker.images.build import BuildSettings
    from paddock.backends.docker.images.store import ImageInfo

__all__ = ["image"]

image = typer.Typer(no_args_is_help=True, help="Make, list and remove images for sandboxes.")

Host = Annotated[
    str | None,
    typer.Option("--host", "-H", help="The engine's address. Default: as docker finds it."),
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
        help="Certificates that the base image shall trust besides Mozilla's.",
    ),
]


@image.command(name="list")
def list_(host: Host = None, as_json: options.AsJson = False) -> None:
    """List the images that Paddock made on an engine."""
    infos = run(_list(host))
    if as_json:
        print(json.dumps([dataclasses.asdict(info) for info in infos], indent=2, default=str))
        return
    if not infos:
        typer.echo("No images yet. `paddock image build python` makes one.", err=True)
        return
    table = Table("image", "size", "created", box=None)
    for info in infos:
        created = info.created.astimezone().strftime("%Y-%m-%d %H:%M")
        table.add_row(Text(plain(info.reference)), decimal(info.size), created)
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
    typer.echo(run(_build(host, name.removeprefix("paddock:"), settings)))


@image.command()
def rm(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="As `paddock image list` shows them.")
    ],
    host: Host = None,
) -> None:
    """Remove images that Paddock made, and no other."""
    run(_remove(host, names))


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
    from paddock.backends.docker.images.bootstrap import DebianSource

    source = DebianSource(mirror=mirror, **({"suite": suite} if suite else {}))
    settings = _settings(network, build_arg, ca_bundle)
    typer.echo(run(_bootstrap(host, source, settings)))


def _settings(
    network: str | None, args: list[str] | None, authorities: Path | None
) -> BuildSettings:
    from paddock.backends.docker.images.build import BuildSettings

    found = BuildSettings.from_environment()
    given = dict(options.parse_variable(text, "--build-arg") for text in args or ())
    return dataclasses.replace(
        found, network=network, args={**found.args, **given}, authorities=authorities
    )


async def _list(host: str | None) -> list[ImageInfo]:
    from paddock.backends.docker.engine.client import Engine
    from paddock.backends.docker.images.store import list_images

    return await list_images(await Engine.connect(host))


async def _build(host: str | None, name: str, settings: BuildSettings) -> str:
    from paddock.backends.docker.engine.client import Engine
    from paddock.backends.docker.images.build import build_recipe

    engine = await Engine.connect(host)
    with image_progress() as tell:
        return await build_recipe(engine, name, settings, tell)


async def _remove(host: str | None, names: list[str]) -> None:
    from paddock.backends.docker.engine.client import Engine
    from paddock.backends.docker.images.store import find_images, remove_image

    engine = await Engine.connect(host)
    for reference in await find_images(engine, names):
        typer.echo(await remove_image(engine, reference))


async def _bootstrap(host: str | None, source: DebianSource, settings: BuildSettings) -> str:
    from paddock.backends.docker.engine.client import Engine
    from paddock.backends.docker.images.build import bootstrap

    engine = await Engine.connect(host)
    with image_progress() as tell:
        return await bootstrap(engine, source, on_progress=tell, settings=settings)
