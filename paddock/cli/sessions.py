"""``paddock sessions``: what was kept of earlier runs, and going on with it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from paddock.cli import options
from paddock.cli.conversation import converse
from paddock.cli.running import run
from paddock.cli.text import one_line, plain
from paddock.cli.timeline import render_record
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from paddock.runtime.store import SessionInfo, SessionStore

__all__ = ["sessions"]

sessions = typer.Typer(no_args_is_help=True, help="List, look at and resume earlier sessions.")

SessionId = Annotated[
    str, typer.Argument(metavar="ID", help="A session's id, the beginning of one, or latest.")
]


@sessions.command(name="list")
def list_(
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="At most so many.")] = 20,
    session_dir: options.SessionDir = None,
    as_json: options.AsJson = False,
) -> None:
    """List sessions, newest first."""
    infos = _store(session_dir).list(limit)
    if as_json:
        print(json.dumps([dataclasses.asdict(info) for info in infos], indent=2, default=str))
        return
    if not infos:
        typer.echo("No sessions yet. `paddock run PROMPT` makes one.", err=True)
        return
    table = Table("id", "status", "created", "model", "profile", "prompt", box=None)
    for info in infos:
        row = (info.id, info.status, _local_time(info), info.model, info.profile)
        cells = [Text(one_line(str(cell), 40)) for cell in row]
        table.add_row(*cells, Text(one_line(info.first_prompt, 60)))
    Console(highlight=False).print(table)


@sessions.command()
def show(
    session: SessionId = "latest",
    session_dir: options.SessionDir = None,
    as_json: options.AsJson = False,
) -> None:
    """Show what happened in a session, step by step.

    `--json` prints the records of its trace, one a line.
    """
    from paddock.runtime.trace import read_records

    store = _store(session_dir)
    path = store.base_dir / _find(store, session) / "trace.jsonl"
    content = read_records(path.read_bytes())
    if as_json:
        for record in content.records:
            print(json.dumps(record, default=str))
        return
    console = Console(highlight=False)
    console.print(Text(plain(str(path)), style="dim"), soft_wrap=True)
    for record in content.records:
        if (shown := render_record(record)) is not None:
            console.print(shown, soft_wrap=True)
    if content.torn:
        typer.echo("paddock: the last record was not written whole", err=True)


@sessions.command()
def resume(
    session: SessionId,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to do next.")],
    max_turns: Annotated[
        int | None, typer.Option("--max-turns", min=1, help="Calls of the model, at most.")
    ] = None,
    session_dir: options.SessionDir = None,
    as_json: options.AsJson = False,
) -> None:
    """Go on with a session: the agent remembers the conversation, its sandbox is a new one.

    paddock sessions resume latest "Now write a test for it"
    """
    store = _store(session_dir)
    resumed = store.resume(_find(store, session))
    raise typer.Exit(run(converse(resumed, prompt, max_turns=max_turns, as_json=as_json)))


def _store(directory: Path | None) -> SessionStore:
    from paddock.runtime.store import SessionStore

    return SessionStore() if directory is None else SessionStore(directory)


def _find(store: SessionStore, name: str) -> str:
    """The id that `name` stands for. Raises `ConfigError` if that is none, or several."""
    if name == "latest":
        latest = store.get_latest_id()
        if latest is None:
            raise ConfigError(f"there are no sessions in {store.base_dir}")
        return latest
    entries = sorted(path.name for path in store.base_dir.iterdir() if path.is_dir())
    if name in entries:
        return name
    matches = [entry for entry in entries if name and entry.startswith(name)]
    if not matches:
        raise ConfigError(f"no session {name!r} in {store.base_dir}")
    if len(matches) > 1:
        raise ConfigError(f"{name!r} may be any of: {', '.join(matches)}")
    return matches[0]


def _local_time(info: SessionInfo) -> str:
    return info.created_at.astimezone().strftime("%Y-%m-%d %H:%M")
