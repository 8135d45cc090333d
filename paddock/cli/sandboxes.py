"""``paddock ls``, ``rm`` and ``gc``: sandboxes seen from outside, whichever process made them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.table import Column, Table
from rich.text import Text

from paddock.cli import options
from paddock.cli.errors import explain
from paddock.cli.running import run
from paddock.cli.tables import local_minute, table_console
from paddock.cli.text import one_line
from paddock.errors import (
    ConfigError,
    MissingCredentials,
    MissingDependency,
    PaddockError,
    Unsupported,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from paddock.backends.base import Backend, SandboxInfo

T = TypeVar("T")

__all__ = ["ALL", "everywhere", "find", "gc", "ls", "rm"]

ALL = "all"
CELL = 60
"""Characters of an image's name, or of labels, that a terminal shows."""
CONTAINER_PREFIX = "paddock-"
"""The prefix of containers' ids; users need not type it."""

Where = Annotated[
    str, typer.Option("--backend", "-b", help="Where to look: a backend's name, or all.")
]


def ls(
    backend: Where = ALL,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", "-l", metavar="KEY=VALUE", help="Only those with this label. Repeatable."
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """List all sandboxes, of all owners.

    An owner that is gone has left its sandbox behind: `paddock gc` removes those. One
    that is unknown works on another machine, or keeps its locks in another directory.
    """
    labels = dict(_parse_label(text) for text in label or ())
    infos = run(everywhere(backend, lambda each: each.list(labels)))
    if as_json:
        print(json.dumps([_as_json(info) for info in infos], indent=2))
    elif infos:
        console = table_console()
        console.print(_table(infos, CELL if console.file.isatty() else console.width))
    else:
        typer.echo("No sandboxes.", err=True)


def rm(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="Ids, or beginnings of ids.", show_default=False),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Remove all sandboxes; asks first, on a terminal.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    backend: Where = ALL,
) -> None:
    """Take sandboxes down, of any owner, and print their ids.

    Their users get `SandboxLost`. A local sandbox goes with the process
    that made it, and not before.
    """
    if bool(ids) == everything:
        raise typer.BadParameter("give ids, or --all", param_hint="ID")
    there = run(everywhere(backend, lambda each: each.list()))
    chosen = there if everything else [find(there, name) for name in ids or ()]
    if everything and chosen and not yes:
        _confirm(len(chosen))
    raise typer.Exit(run(_remove({info.id: info for info in chosen}.values())))


def gc(backend: Where = ALL) -> None:
    """Remove what processes that are gone have left behind, and print the ids.

    Sandboxes whose owner is alive, or cannot be seen from here, are left alone.
    """
    removed = run(everywhere(backend, lambda each: each.gc()))
    for sandbox_id in removed:
        print(sandbox_id)
    if not removed:
        typer.echo("Nothing was left behind.", err=True)


async def everywhere(name: str, ask: Callable[[Backend], Awaitable[Sequence[T]]]) -> list[T]:
    """Ask the backend of that name, or all of them; report and skip one that fails."""
    from paddock.backends.base import backend_names, get_backend

    if name != ALL:
        return list(await ask(get_backend(name)()))
    answers: list[T] = []
    for each in backend_names():
        try:
            answers += await ask(get_backend(each)())
        except (Unsupported, MissingDependency, MissingCredentials):
            continue  # nothing of it can be there
        except (PaddockError, OSError) as error:
            typer.echo(f"paddock: {each}: {explain(error)}", err=True)
    return answers


async def _remove(chosen: Iterable[SandboxInfo]) -> int:
    """Remove them all and report each; return the exit code."""
    codes = await asyncio.gather(*(_remove_one(info) for info in chosen))
    return max(codes, default=0)


async def _remove_one(info: SandboxInfo) -> int:
    from paddock.backends.base import get_backend

    try:
        await get_backend(info.backend)().delete(info.id)
    except (PaddockError, OSError) as error:
        typer.echo(f"paddock: {info.id}: {explain(error)}", err=True)
        return 1
    print(info.id)
    return 0


def _confirm(count: int) -> None:
    what = "1 sandbox" if count == 1 else f"{count} sandboxes"
    if not (sys.stdin and sys.stdin.isatty()):
        raise typer.BadParameter(f"would remove {what}; give --yes too", param_hint="--all")
    typer.confirm(f"Remove {what}, used or not?", abort=True, err=True)


def find(there: Iterable[SandboxInfo], name: str) -> SandboxInfo:
    """The one whose id `name` is or begins."""
    found = [info for info in there if _begins(info.id, name)]
    exact = [info for info in found if info.id == name]
    match exact or found:
        case [one]:
            return one
        case []:
            raise ConfigError(f"no sandbox has the id {name!r}; `paddock ls` shows all")
        case several:
            ids = ", ".join(info.id for info in several)
            raise ConfigError(f"{name!r} may be any of {ids}")


def _begins(sandbox_id: str, name: str) -> bool:
    return bool(name) and (
        sandbox_id.startswith(name) or sandbox_id.removeprefix(CONTAINER_PREFIX).startswith(name)
    )


def _parse_label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--label")
    return key, value


def _as_json(info: SandboxInfo) -> dict[str, Any]:
    return dataclasses.asdict(info) | {
        "created": info.created.isoformat(),
        "labels": dict(info.labels),
    }


def _table(infos: Iterable[SandboxInfo], width: int) -> Table:
    """Of cells that have at most `width` characters."""
    table = Table(
        Column("id", no_wrap=True),
        "backend",
        "state",
        "owner",
        Column("created", no_wrap=True),
        "image or directory",
        "labels",
        box=None,
    )
    for info in infos:
        labels = " ".join(f"{key}={value}" for key, value in info.labels.items())
        created, place = local_minute(info.created), info.image or info.working_dir or ""
        row = (info.id, info.backend, info.state, info.owner, created, place, labels)
        table.add_row(*(Text(one_line(cell, width)) for cell in row))
    return table
