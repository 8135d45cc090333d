"""Options that several commands share, and what is made of them."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paddock.errors import Unsupported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.backends.base import Backend

__all__ = [
    "PROMPT_HELP",
    "AsJson",
    "AutoApprove",
    "BackendName",
    "Env",
    "Image",
    "Isolation",
    "MaxTurns",
    "Model",
    "SessionDir",
    "Setup",
    "Upload",
    "WorkingDir",
    "make_backend",
    "parse_upload",
    "parse_variable",
    "read_prompt",
]

PROMPT_HELP = "The task; - reads it from stdin."

_SANDBOX = "The sandbox"

BackendName = Annotated[
    str, typer.Option("--backend", "-b", help="What makes the sandbox.", rich_help_panel=_SANDBOX)
]
Image = Annotated[
    str | None,
    typer.Option(
        "--image",
        help="What a container begins with: a reference, or paddock:NAME, made if it is missing.",
        rich_help_panel=_SANDBOX,
    ),
]
Isolation = Annotated[
    str | None,
    typer.Option(
        "--isolation",
        help="auto, none or bubblewrap. A level this machine cannot give is an error.",
        rich_help_panel=_SANDBOX,
    ),
]
Upload = Annotated[
    list[str] | None,
    typer.Option(
        "--upload",
        "-u",
        metavar="SRC:DST",
        help="Copy a file or a tree into the sandbox. Repeatable.",
        rich_help_panel=_SANDBOX,
    ),
]
Setup = Annotated[
    list[str] | None,
    typer.Option(
        "--setup",
        metavar="CMD",
        help="Run this in the sandbox first; a failure stops. Repeatable.",
        rich_help_panel=_SANDBOX,
    ),
]
Env = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        "-e",
        metavar="KEY=VALUE",
        help="Set a variable in the sandbox, which has none of yours. Repeatable.",
        rich_help_panel=_SANDBOX,
    ),
]
WorkingDir = Annotated[
    str | None,
    typer.Option(
        "--working-dir",
        "-w",
        metavar="DIR",
        help="Work in this directory, in place, and keep it. Default: a fresh one, removed at the "
        "end.",
        rich_help_panel=_SANDBOX,
    ),
]
Model = Annotated[
    str | None, typer.Option("--model", "-m", help="The model's name, or scripted:FILE.")
]
MaxTurns = Annotated[
    int | None, typer.Option("--max-turns", min=1, help="Calls of the model, at most.")
]
AutoApprove = Annotated[
    bool, typer.Option("--auto-approve", "-y", help="Do not ask before dangerous tool calls.")
]
SessionDir = Annotated[
    Path | None,
    typer.Option("--session-dir", metavar="DIR", help="Where sessions are kept."),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout, and nothing else.")]


def make_backend(
    name: str,
    *,
    image: str | None = None,
    upload: Sequence[str] | None = None,
    setup: Sequence[str] | None = None,
    env: Sequence[str] | None = None,
    working_dir: str | None = None,
    isolation: str | None = None,
) -> Backend:
    """The recipe that the options describe.

    Raises `typer.BadParameter` for a malformed option, `ConfigError` for an unknown
    backend, `Unsupported` for an option that the backend has no use for.
    """
    from paddock.backends.base import get_backend

    asked: dict[str, Any] = {
        "image": image,
        "uploads": [parse_upload(text) for text in upload or ()],
        "setup": list(setup or ()),
        "env_vars": dict(parse_variable(text) for text in env or ()),
        "working_dir": working_dir,
        "isolation": isolation,
    }
    kind = get_backend(name)
    known = {field.name for field in dataclasses.fields(kind)}
    given = {field: value for field, value in asked.items() if value}
    for field in given.keys() - known:
        raise Unsupported(f"--{field.replace('_', '-')}", backend=name)
    return kind(**given)


def read_prompt(text: str) -> str:
    """The prompt that the argument stands for."""
    if text == "-":
        text = sys.stdin.read() if sys.stdin else ""
    if not text.strip():
        raise typer.BadParameter("the prompt is empty", param_hint="PROMPT")
    return text


def parse_upload(text: str) -> tuple[str, str]:
    """``SRC:DST``; the last colon divides, since a path of this machine may hold one."""
    source, colon, destination = text.rpartition(":")
    if not (source and colon and destination):
        raise typer.BadParameter(f"{text!r} is not SRC:DST", param_hint="--upload")
    if not Path(source).exists():
        raise FileNotFoundError(2, "no such file or directory to upload", source)
    return source, destination


def parse_variable(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (equals and key.isidentifier() and key.isascii()):
        raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--env")
    return key, value
