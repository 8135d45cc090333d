"""``paddock init``: a project file to begin with."""

from __future__ import annotations

import typer

from paddock.errors import ConfigError
from paddock.project import FILE_NAME

__all__ = ["init"]

TEMPLATE = """\
# What the sandboxes of this project begin with. `paddock run` and `paddock exec` read it,
# and put the project into each sandbox. An option of a command takes precedence over this file.

[sandbox]
# One of these. None of them is for local sandboxes.
# image = "python:3.12-slim"
# dockerfile = "Dockerfile"
# snapshot = "a-name"

# Where commands run. Default: where the project is put.
# working_dir = "/srv/project"

# Run in the working directory, in this order, before anything else.
# setup = ["make"]

# The version of uv that a sandbox has to have.
# uv_version = "0.9.5"
# upload_ignore = ["/data", "*.log"]
# upload_gitignore = true

[sandbox.env]
# PYTHONUNBUFFERED = "1"
"""


def init() -> None:
    """Write a paddock.toml to begin with into this directory."""
    try:
        with open(FILE_NAME, "x", encoding="utf-8") as file:
            file.write(TEMPLATE)
    except FileExistsError:
        raise ConfigError(f"there is a {FILE_NAME} here already; it stays as it is") from None
    typer.echo(f"wrote {FILE_NAME}")
