"""The application: its commands, and the options that come before them."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from paddock.cli.approvals import approvals
from paddock.cli.batch import batch
from paddock.cli.demo import demo
from paddock.cli.doctor import doctor
from paddock.cli.exec import exec_
from paddock.cli.export import export
from paddock.cli.image import image
from paddock.cli.init import init
from paddock.cli.map import map_
from paddock.cli.mcp import mcp
from paddock.cli.monitor import monitor
from paddock.cli.run import run
from paddock.cli.sandboxes import gc, ls, rm
from paddock.cli.serve import PASSED_ON, serve
from paddock.cli.sessions import sessions
from paddock.cli.settings import Settings
from paddock.cli.shell import shell
from paddock.cli.steering import cancel, ps
from paddock.cli.trust import trust

__all__ = ["app", "with_command"]

ROOT_FLAGS = frozenset({"--debug"})
"""What may stand before a command, or a prompt."""

_FOR_ROOT = frozenset({"-h", "--help", "--version"})


class Root(TyperGroup):
    """The commands, of which ``run`` goes without saying before a prompt or its options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_command(args))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, known = args[0], self.list_commands(ctx)
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            one_word = f"A prompt of one word needs its command: paddock run {shlex.quote(name)}"
            hint = f"Did you mean {close[0]!r}?" if close else one_word
            ctx.fail(f"No such command {name!r}. {hint}")
        return super().resolve_command(ctx, args)


def with_command(args: Sequence[str]) -> list[str]:
    """`args` with a command: ``run`` where there is none, but a prompt, an option or nothing.

    One word is never a prompt: it may be a command that was mistyped, and agents cost money.
    """
    before = next((n for n, each in enumerate(args) if each not in ROOT_FLAGS), len(args))
    flags, rest = list(args[:before]), list(args[before:])
    if not rest:
        return [*flags, "run"]
    first = rest[0]
    is_option = first.startswith("-") and first not in _FOR_ROOT
    if is_option or any(character.isspace() for character in first):
        return [*flags, "run", *rest]
    return [*flags, *rest]


app = typer.Typer(
    name="paddock",
    cls=Root,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `paddock demo`, which needs no key, no network and no root. Without a "
    'command there is a conversation; `paddock "Which tests fail?"` is `paddock run`.',
)
app.command()(demo)
app.command()(run)
# What follows the program is for the program, with or without a `--` before it.
app.command(name="exec", context_settings={"allow_interspersed_args": False})(exec_)
app.command()(shell)
app.command(name="map")(map_)
app.add_typer(batch, name="batch")
app.add_typer(sessions, name="sessions")
app.add_typer(approvals, name="approvals")
app.command()(export)
app.command()(ps)
app.command()(cancel)
app.command()(monitor)
app.add_typer(image, name="image")
app.add_typer(mcp, name="mcp")
app.command()(ls)
app.command()(rm)
app.command()(gc)
app.command(context_settings=PASSED_ON)(serve)
app.command()(init)
app.command()(trust)
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
