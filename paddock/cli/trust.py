"""``paddock trust``: which files of projects may decide what only the user may."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paddock.cli.text import one_line
from paddock.cli.trusting import TrustStore, trust_file
from paddock.errors import ConfigError

__all__ = ["trust"]


def trust(
    path: Annotated[
        Path | None,
        typer.Argument(metavar="PATH", help="An agent's YAML, a paddock.toml, or a session."),
    ] = None,
    listed: Annotated[
        bool, typer.Option("--list", help="List the files that are trusted.")
    ] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Stop trusting PATH.")] = False,
) -> None:
    """Trust a file of a project as it is now: show what it asks for, and do not ask again.

    A file that changes has to be trusted anew.

        paddock trust agent.yaml

        paddock trust --list

        paddock trust --forget agent.yaml
    """
    store = TrustStore()
    if listed:
        for known in sorted(store.known()):
            typer.echo(one_line(known, 4096))
        return
    if path is None:
        raise ConfigError("give the PATH of a file, or --list")
    if not forget:
        for wish in trust_file(path, store):
            typer.echo(f"  {one_line(str(wish), 200)}")
        typer.echo(f"trusted: {path}")
    elif store.forget(path):
        typer.echo(f"no longer trusted: {path}")
    else:
        raise ConfigError(f"{path} was not trusted")
