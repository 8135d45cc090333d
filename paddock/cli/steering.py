"""``paddock ps`` and ``paddock cancel``: the sessions that run now, seen from outside.

All of it goes through the directories of the sessions, from whatever process. What a
directory says of itself may be out of date; the lock on its trace is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from paddock._directory import PrivateDirectory
from paddock.cli import options
from paddock.cli.sessions import open_store
from paddock.cli.tables import table_console
from paddock.cli.text import one_line
from paddock.errors import ConfigError, SessionError
from paddock.runtime.conversation.directory import SessionDirectory
from paddock.runtime.conversation.glance import last_status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from paddock.runtime.conversation.directory import Writer
    from paddock.runtime.session.store import SessionStore

__all__ = ["Watched", "cancel", "choose", "ps", "running", "table", "watched"]

Phase = Literal["running", "paused", "cancelling", "died"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A session that runs, or whose process died while it ran."""

    id: str
    phase: Phase
    directory: SessionDirectory
    writer: Writer | None
    prompt: str

    @property
    def told(self) -> str:
        """On one line, in characters that print."""
        return f"{self.id}  {self.phase}  {one_line(self.prompt, 60)}"


Directory = Annotated[
    Path | None,
    typer.Argument(
        metavar="DIR", help="Where the sessions are kept. Default: as for `paddock run`."
    ),
]


def ps(directory: Directory = None) -> None:
    """List the sessions that run now, and those whose process died while they ran.

    paddock ps

    paddock ps ./sessions
    """
    found = watched(existing_store(directory))
    if found:
        table_console().print(table(found))
    else:
        typer.echo("No session is running.", err=True)


def cancel(
    prefix: Annotated[
        str, typer.Argument(metavar="PREFIX", help="A session's id, or the beginning of one.")
    ] = "",
    directory: options.ShortSessionDir = None,
    every: Annotated[bool, typer.Option("--all", help="Cancel all that run.")] = False,
) -> None:
    """Ask a running session to stop, from any terminal; its history stays whole.

    It stops within a second, also one that is paused.

        paddock cancel 3f2a

        paddock cancel --all
    """
    store = existing_store(directory)
    if not (prefix or every):
        raise ConfigError("say which session, by the beginning of its id, or --all")
    for session in choose(store, "all" if every else prefix):
        session.directory.request_cancel()
        typer.echo(f"asked {session.id} to stop")


def existing_store(directory: Path | None) -> SessionStore:
    """The store in `directory`, which has to be there, or the user's."""
    if directory is not None and not directory.exists():
        raise FileNotFoundError(2, "no such directory", str(directory))
    return open_store(directory)


def watched(store: SessionStore) -> list[Watched]:
    """All sessions that run or died, in the order of their ids. Reads; makes nothing."""
    try:
        names = sorted(PrivateDirectory(store.base_dir, shared=True).directories())
    except FileNotFoundError:
        return []
    directories = (SessionDirectory(store.base_dir / name) for name in names)
    return [found for each in directories for found in _look(each)]


def running(store: SessionStore) -> list[Watched]:
    """Those that can be asked for something."""
    return [session for session in watched(store) if session.phase != "died"]


def choose(store: SessionStore, prefix: str) -> list[Watched]:
    """The one running session whose id begins with `prefix`, or ``all`` of them.

    Raises `SessionError` that lists the matches where there are several, and says how it
    stands with one that does not run; `FileNotFoundError` where there is none at all.
    """
    found = running(store)
    if prefix == "all":
        return found
    matches = [session for session in found if session.id.startswith(prefix)]
    exact = [session for session in matches if session.id == prefix]
    if len(exact or matches) == 1:
        return exact or matches
    if matches:
        lines = "".join(f"\n  {session.told}" for session in matches)
        raise SessionError(f"{prefix or 'this'} may be any of:{lines}")
    if not prefix:
        raise SessionError("no session is running")
    raise SessionError(_why_not(store, prefix))


def table(sessions: Sequence[Watched]) -> Table:
    """For a person."""
    shown = Table("id", "status", "pid", "since (UTC)", "prompt", box=None)
    for session in sessions:
        writer = session.writer
        cells = (
            session.id,
            session.phase,
            str(writer.pid) if writer else "",
            str(writer.since)[:19] if writer else "",
            session.prompt,
        )
        shown.add_row(*(Text(one_line(cell, 60)) for cell in cells))
    return shown


def _look(directory: SessionDirectory) -> Iterator[Watched]:
    """The session of a directory, if it runs or was running."""
    locked = directory.locked()
    meta = directory.read_meta()
    if not locked and (meta.get("status") != "running" or last_status(directory)):
        return
    yield Watched(
        id=directory.path.name,
        phase=_phase(directory) if locked else "died",
        directory=directory,
        writer=directory.holder(),
        prompt=str(meta.get("first_prompt") or ""),
    )


def _phase(directory: SessionDirectory) -> Phase:
    if directory.cancel_requested():
        return "cancelling"
    return "paused" if directory.paused() else "running"


def _why_not(store: SessionStore, prefix: str) -> str:
    info = store.info(prefix)  # or there is none, or there are several
    dead = any(session.id == info.id for session in watched(store))
    how = "its process died while it ran" if dead else f"its status is {info.status}"
    return f"session {info.id} is not running: {how}"
