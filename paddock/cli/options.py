"""Options that several commands share, and what their texts mean."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from paddock.cli.settings import keep_quiet
from paddock.errors import ConfigError
from paddock.redaction import Redactor, Secrets
from paddock.redaction import ShortSecret as Short

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paddock.project import Project
    from paddock.runtime.core.content import ImagePart

__all__ = [
    "PROMPT_HELP",
    "ApprovalWay",
    "Approvals",
    "AsJson",
    "AutoApprove",
    "BackendName",
    "Dockerfile",
    "Env",
    "Image",
    "Isolation",
    "MaxTurns",
    "Model",
    "Network",
    "NoSetup",
    "ProjectFile",
    "Secret",
    "SessionDir",
    "SessionId",
    "Setup",
    "ShortSecret",
    "ShortSessionDir",
    "Snapshot",
    "Trust",
    "Upload",
    "WorkingDir",
    "parse_upload",
    "parse_value",
    "parse_variable",
    "project_file",
    "read_attached",
    "read_prompt",
    "read_secrets",
    "with_option_groups",
]

PROMPT_HELP = "The task; - reads it from stdin."

_sandbox_option = functools.partial(typer.Option, rich_help_panel="The sandbox")

BackendName = Annotated[
    str | None,
    _sandbox_option(
        "--backend",
        "-b",
        envvar="PADDOCK_BACKEND",
        help="The backend that makes the sandbox: local, docker, podman, ssh, daytona, or an "
        "installed one. Default: local.",
    ),
]
Image = Annotated[
    str | None,
    _sandbox_option(
        "--image",
        help="The image of a container: a reference, or paddock:NAME, which is built if it is "
        "missing.",
    ),
]
Dockerfile = Annotated[
    Path | None,
    _sandbox_option(
        "--dockerfile",
        metavar="FILE",
        help="Build the image from this file, with its folder as the context. Implies "
        "--backend daytona unless one is given.",
    ),
]
Snapshot = Annotated[
    str | None,
    _sandbox_option(
        "--snapshot",
        metavar="NAME",
        help="Start from this snapshot; an empty name is Daytona's default. Implies --backend "
        "daytona unless one is given.",
    ),
]
ProjectFile = Annotated[
    bool,
    _sandbox_option(
        "--project/--no-project",
        help="Use the paddock.toml of this directory or the nearest one above.",
    ),
]
Isolation = Annotated[
    str | None,
    _sandbox_option(
        "--isolation",
        help="auto, bubblewrap, landlock or none. A level that this machine cannot provide is an "
        "error; auto is bubblewrap or else landlock. Default: PADDOCK_ISOLATION, or auto.",
    ),
]
Upload = Annotated[
    list[str] | None,
    _sandbox_option(
        "--upload",
        "-u",
        metavar="SRC:DST",
        help="Copy a file or a tree into the sandbox. Repeatable.",
    ),
]
Dirs = Annotated[
    list[str] | None,
    _sandbox_option(
        "--dir",
        metavar="DIRECTORY",
        help="Let commands of a local sandbox write to this directory, too; it is used in place. "
        "Repeatable.",
    ),
]
Ignore = Annotated[
    list[str] | None,
    _sandbox_option(
        "--ignore",
        metavar="PATTERN",
        help="Leave this out of an uploaded tree, as a line of a .gitignore would: node_modules, "
        "'*.log', /dist. '!.git' includes what is left out by default. Repeatable.",
    ),
]
Gitignore = Annotated[
    bool | None,
    _sandbox_option(
        "--gitignore/--no-gitignore",
        help="Leave out of an uploaded tree what its .gitignore files ignore.",
        show_default=False,
    ),
]
LinksOption = Annotated[
    str | None,
    _sandbox_option(
        "--links",
        metavar="keep|skip|refuse",
        help="Symbolic links in an uploaded tree: keep them as they are (the default), skip "
        "them, or refuse a tree that has any.",
    ),
]
Setup = Annotated[
    list[str] | None,
    _sandbox_option(
        "--setup",
        metavar="CMD",
        help="Run this in the sandbox first; a failure ends the command. Repeatable.",
    ),
]
Env = Annotated[
    list[str] | None,
    _sandbox_option(
        "--env",
        "-e",
        metavar="KEY=VALUE",
        help="Set an environment variable in the sandbox, which gets none of yours. Repeatable.",
    ),
]
Secret = Annotated[
    list[str] | None,
    _sandbox_option(
        "--secret",
        metavar="NAME[=VALUE]",
        help="Set a secret variable; it is redacted everywhere. NAME alone reads it from your "
        "environment. Repeatable.",
    ),
]
ShortSecret = Annotated[
    list[str] | None,
    _sandbox_option(
        "--short-secret",
        metavar="NAME[=VALUE]",
        help="The same, for a secret of fewer than 8 bytes: redacts every equal text.",
    ),
]
WorkingDir = Annotated[
    str | None,
    _sandbox_option(
        "--working-dir",
        "-w",
        metavar="DIR",
        help="Work in this directory, in place, and keep it. Default: a fresh one, removed at the "
        "end.",
    ),
]
Model = Annotated[
    str | None, typer.Option("--model", "-m", help="The model's name, or scripted:FILE.")
]
Attached = Annotated[
    list[Path] | None,
    typer.Option(
        "--attach",
        metavar="FILE",
        help="An image that goes with the prompt: PNG, JPEG, GIF or WebP. Repeatable.",
    ),
]
MaxTurns = Annotated[
    int | None, typer.Option("--max-turns", min=1, help="At most this many model calls.")
]
NoSetup = Annotated[
    bool,
    _sandbox_option(
        "--no-setup",
        help="Run no setup commands, not even those of a file.",
    ),
]
Network = Annotated[
    str | None,
    _sandbox_option(
        "--network",
        metavar="none|auto|full|HOST,...",
        help="The hosts that the sandbox may reach: none (the default), all, or a list.",
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Trust the files of the project this time. See `paddock trust`.",
    ),
]
AutoApprove = Annotated[
    bool | None,
    typer.Option(
        "--auto-approve/--no-auto-approve",
        "-y",
        help="Do not ask before dangerous calls in this command; --no-auto-approve asks even if a "
        "file says otherwise.",
    ),
]
ApprovalWay = Literal["ask", "wait", "later"]
Approvals = Annotated[
    ApprovalWay,
    typer.Option(
        "--approvals",
        help="How dangerous calls are approved. ask: at this terminal. wait: the run waits until "
        "they are answered by `paddock approvals answer`. later: it ends, and continues by "
        "`paddock sessions resume ID`.",
    ),
]
SessionId = Annotated[
    str, typer.Argument(metavar="ID", help="A session's id, the beginning of one, or latest.")
]
SessionDir = Annotated[
    Path | None,
    typer.Option("--session-dir", metavar="DIR", help="Where sessions are kept."),
]
ShortSessionDir = Annotated[
    Path | None,
    typer.Option("--dir", "--session-dir", metavar="DIR", help="Where sessions are kept."),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout, and nothing else.")]


def project_file(wanted: bool) -> Project | None:
    """The project file of the current directory, unless it is to be left aside."""
    from paddock.project import find_project

    return find_project() if wanted else None


def parse_value(text: str) -> tuple[str, str]:
    """``NAME=VALUE`` of a prompt's variable."""
    name, equals, value = text.partition("=")
    if not (equals and name):
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--var")
    return name, value


def read_prompt(text: str) -> str:
    """The prompt that the argument stands for."""
    if text == "-":
        text = sys.stdin.read() if sys.stdin else ""
    if not text.strip():
        raise typer.BadParameter("the prompt is empty", param_hint="PROMPT")
    return text


def read_attached(paths: Sequence[Path]) -> list[ImagePart]:
    """The images that go with the prompt. Raises `ConfigError` for a file that is no image."""
    from paddock.runtime.core.content import ImagePart

    images = []
    for path in paths:
        try:
            images.append(ImagePart(path.read_bytes()))
        except OSError as error:
            raise ConfigError(f"--attach {path}: {error.strerror or error}") from None
        except ValueError as error:
            raise ConfigError(f"--attach {path}: {error}") from None
    return images


def parse_upload(text: str) -> tuple[str, str]:
    """``SRC:DST``; the last colon divides, since a path of this machine may hold one."""
    source, colon, destination = text.rpartition(":")
    if not (source and colon and destination):
        raise typer.BadParameter(f"{text!r} is not SRC:DST", param_hint="--upload")
    if not Path(source).exists():
        raise FileNotFoundError(2, "no such file or directory to upload", source)
    return source, destination


def parse_variable(text: str, option: str = "--env") -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (equals and key.isidentifier() and key.isascii()):
        raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint=option)
    return key, value


def read_secrets(texts: Sequence[str] | None, short: Sequence[str] | None = None) -> Secrets:
    """``NAME=VALUE`` each, or ``NAME`` for the value that this process has under it.

    Those of `short` may have fewer than 8 bytes. No error that the command shows from now on
    has a value in it, and neither have those raised here: `typer.BadParameter`, and
    `ConfigError` for a value that is missing or cannot be redacted.
    """
    given = dict(_parse_secret(text, "--secret") for text in texts or ())
    for text in short or ():
        name, value = _parse_secret(text, "--short-secret")
        given[name] = Short(value)
    secrets = Secrets(given)
    keep_quiet(Redactor(secrets))
    return secrets


def _parse_secret(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and name.isascii()):  # it may be a value, so it is not shown
        raise typer.BadParameter("give NAME, or NAME=VALUE", param_hint=option)
    if equals:
        return name, value
    found = os.environ.get(name)
    if found is None:
        raise ConfigError(f"{option} {name}: the environment has no such variable")
    return name, found


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command options for the fields of those of its arguments that are dataclasses."""
    own = _parameters(command)
    kinds = {each.name: each.annotation for each in own if isinstance(each.annotation, type)}
    groups = {name: kind for name, kind in kinds.items() if dataclasses.is_dataclass(kind)}
    fields = {name: _parameters(kind) for name, kind in groups.items()}

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{each.name: given.pop(each.name) for each in fields[name]})
        command(**given)

    parameters = [each for one in own for each in fields.get(one.name, [one])]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # Typer reads it
        [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    )
    return run


def _parameters(kind: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(kind, eval_str=True).parameters.values())
