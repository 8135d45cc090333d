"""The application: its commands, and the options that come before them."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup
from typer.main import get_group

from paddock.cli.serve import PASSED_ON
from paddock.cli.settings import Settings

__all__ = ["COMMANDS", "app", "with_command"]

ROOT_FLAGS = frozenset({"--debug"})
"""What may stand before a command, or a prompt."""

COMMANDS: Mapping[str, str] = {
    "demo": "demo:demo",
    "run": "run:run",
    "exec": "exec:exec_",
    "shell": "shell:shell",
    "map": "map:map_",
    "batch": "batch:batch",
    "sessions": "sessions:sessions",
    "approvals": "approvals:approvals",
    "export": "export:export",
    "ps": "steering:ps",
    "cancel": "steering:cancel",
    "monitor": "monitor:monitor",
    "image": "image:image",
    "mcp": "mcp:mcp",
    "ls": "sandboxes:ls",
    "rm": "sandboxes:rm",
    "gc": "sandboxes:gc",
    "serve": "serve:serve",
    "init": "init:init",
    "trust": "trust:trust",
    "doctor": "doctor:doctor",
}
"""The commands in the order of ``--help``, each with its module here and its function or `Typer`.
A module is imported when its command is named: all of them take twice as long as most commands."""

CONTEXT_SETTINGS: Mapping[str, dict[str, Any]] = {
    # What follows the program is for the program, with or without a `--` before it.
    "exec": {"allow_interspersed_args": False},
    "serve": PASSED_ON,
}

MARKUP: Literal["markdown"] = "markdown"

_FOR_ROOT = frozenset({"-h", "--help", "--version"})


class Root(TyperGroup):
    """The commands, of which ``run`` goes without saying before a prompt or its options."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            self.commands[cmd_name] = _load(cmd_name)
        return super().get_command(ctx, cmd_name)

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


def _load(name: str) -> Any:
    module, attribute = COMMANDS[name].split(":")
    found = getattr(import_module(f"paddock.cli.{module}"), attribute)
    holder = typer.Typer(rich_markup_mode=MARKUP)
    if isinstance(found, typer.Typer):
        holder.add_typer(found, name=name)
    else:
        holder.command(name=name, context_settings=CONTEXT_SETTINGS.get(name))(found)
    return get_group(holder).commands[name]


app = typer.Typer(
    name="paddock",
    cls=Root,
    add_completion=False,
    rich_markup_mode=MARKUP,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `paddock demo`, which needs no key, no network and no root. Without a "
    'command there is a conversation; `paddock "Which tests fail?"` is `paddock run`.',
)


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
