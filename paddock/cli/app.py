"""The application: its commands, and the options that come before them."""

from __future__ import annotations

from typing import Annotated

import typer

from paddock.cli.demo import demo
from paddock.cli.doctor import doctor
from paddock.cli.exec import exec_
from paddock.cli.export import export
from paddock.cli.image import image
from paddock.cli.init import init
from paddock.cli.run import run
from paddock.cli.sandboxes import gc, ls, rm
from paddock.cli.sessions import sessions
from paddock.cli.settings import Settings

__all__ = ["app"]

app = typer.Typer(
    name="paddock",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `paddock demo`, which needs no key, no network and no root.",
)
app.command()(demo)
app.command()(run)
# What follows the program is for the program, with or without a `--` before it.
app.command(name="exec", context_settings={"allow_interspersed_args": False})(exec_)
app.add_typer(sessions, name="sessions")
app.command()(export)
app.add_typer(image, name="image")
app.command()(ls)
app.command()(rm)
app.command()(gc)
app.command()(init)
app.command()(doctor)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"paddock {version('paddock')}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks. PADDOCK_DEBUG=1 does the same.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Sandboxes for agents: provision, run tool calls in them, take everything down again."""
    settings = context.find_object(Settings)
    if settings is not None:
        settings.debug = settings.debug or debug
