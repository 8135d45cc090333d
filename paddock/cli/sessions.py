"""``paddock sessions``: what was kept of earlier runs, and going on with it."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from paddock.cli import options
from paddock.cli.agents import AgentOptions, configure, read_config
from paddock.cli.conversation import converse
from paddock.cli.databases import with_databases
from paddock.cli.lines import is_terminal
from paddock.cli.running import run
from paddock.cli.sandbox_options import SandboxOptions
from paddock.cli.tables import local_minute, table_console
from paddock.cli.text import one_line, plain
from paddock.cli.timeline import Timeline
from paddock.cli.trusting import TrustStore, trust_file
from paddock.errors import ConfigError
from paddock.runtime.conversation.directory import CONFIG, TRACE, SessionDirectory

if TYPE_CHECKING:
    from paddock.redaction import Secrets
    from paddock.runtime.agents.agent import Agent
    from paddock.runtime.agents.config import AgentConfig
    from paddock.runtime.session.session import Session
    from paddock.runtime.session.store import SessionStore

__all__ = [
    "create_saved",
    "find_session",
    "list_",
    "locate",
    "open_store",
    "read_saved",
    "sessions",
]

sessions = typer.Typer(no_args_is_help=True, help="List, look at and resume earlier sessions.")


@sessions.command(name="list")
def list_(
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="At most this many.")] = 20,
    session_dir: options.SessionDir = None,
    as_json: options.AsJson = False,
) -> None:
    """List sessions, newest first."""
    infos = open_store(session_dir).list(limit)
    if as_json:
        print(json.dumps([dataclasses.asdict(info) for info in infos], indent=2, default=str))
        return
    if not infos:
        typer.echo("No sessions yet. `paddock run PROMPT` makes one.", err=True)
        return
    table = Table("id", "status", "created", "model", "profile", "prompt", box=None)
    for info in infos:
        row = (info.id, info.status, local_minute(info.created_at), info.model, info.profile)
        cells = [Text(one_line(str(cell), 40)) for cell in row]
        table.add_row(*cells, Text(one_line(info.first_prompt, 60)))
    table_console().print(table)


@sessions.command()
def show(
    session: options.SessionId = "latest",
    session_dir: options.SessionDir = None,
    as_json: options.AsJson = False,
) -> None:
    """Show what happened in a session, step by step: how long it took and what it cost.

    `--json` prints the records of its trace, one a line.
    """
    from paddock.runtime.conversation.trace import read_records

    store = open_store(session_dir)
    directory = SessionDirectory(store.base_dir / find_session(store, session))
    content = read_records(directory.read_trace())
    if as_json:
        for record in content.records:
            print(json.dumps(record, default=str))
        return
    console, timeline = Console(highlight=False), Timeline()
    console.print(Text(plain(str(directory.trace)), style="dim"), soft_wrap=True)
    for record in content.records:
        if (shown := timeline.render_record(record)) is not None:
            console.print(shown, soft_wrap=True)
    console.print(timeline.total, soft_wrap=True)
    if content.torn:
        typer.echo("paddock: the last record was not written whole", err=True)


@sessions.command()
@options.with_option_groups
def resume(
    context: typer.Context,
    session: options.SessionId,
    prompt: Annotated[
        str | None, typer.Argument(metavar="[PROMPT]", help=options.PROMPT_HELP)
    ] = None,
    model: options.Model = None,
    max_turns: options.MaxTurns = None,
    auto_approve: options.AutoApprove = None,
    approvals: options.Approvals = "ask",
    session_dir: options.SessionDir = None,
    as_json: options.AsJson = False,
    *,
    sandbox: SandboxOptions,
) -> None:
    """Go on with a session: the agent remembers the conversation, its sandbox is a new one.

    Without a prompt it continues where it stopped: with calls that were approved meanwhile (see
    `paddock approvals`), or by asking a model again that failed.

    The sandbox is made as the first one was, and options change that. --backend describes it
    anew: then a paddock.toml holds, too. Secrets are not kept, so give them again.

        paddock sessions resume latest "Now write a test for it"

        paddock sessions resume latest
    """
    from paddock.runtime.agents.agent import Agent

    text = None if prompt is None else options.read_prompt(prompt)
    if text is None and approvals == "ask" and not is_terminal():
        approvals = "later"  # open requests can still be answered
    secrets = sandbox.secrets()
    store = open_store(session_dir)
    name = find_session(store, session)
    agent_options = AgentOptions(model=model, auto_approve=auto_approve)
    sandbox = sandbox.unless_from_environment(context)
    base = read_saved(store, name, agent_options, sandbox)
    config = configure(base, agent_options, sandbox, saved=True)
    agent = Agent(with_databases(config, file=None, saved=True))
    resumed = store.resume(name, agent, secrets=secrets)
    talk = converse(
        resumed,
        text,
        approves_all=bool(auto_approve),
        approvals=approvals,
        max_turns=max_turns,
        as_json=as_json,
    )
    raise typer.Exit(run(talk))


def open_store(directory: Path | None) -> SessionStore:
    """The store in `directory`, or the user's; `NotADirectoryError` for a file."""
    from paddock.runtime.session.store import SessionStore

    store = SessionStore() if directory is None else SessionStore(directory)
    if store.base_dir.exists() and not store.base_dir.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "not a directory", str(store.base_dir))
    return store


def find_session(store: SessionStore, name: str) -> str:
    """The id that `name` stands for: an id, the beginning of one, or ``latest``."""
    if name != "latest":
        return store.find(name)
    latest = store.get_latest_id()
    if latest is None:
        raise ConfigError(f"there are no sessions in {store.base_dir}")
    return latest


def locate(name: str, directory: Path | None) -> tuple[SessionStore, str]:
    """The store and the id of a session that is named as in `find_session`, or by the path
    of its directory or of its trace."""
    path = Path(name).expanduser()
    if path.name == TRACE and path.is_file():
        path = path.parent
    if (path / TRACE).is_file():
        # The last component as it is: a link to a session is refused where it is opened.
        path = path.parent.resolve() / path.name if path.name not in ("", "..") else path.resolve()
        return open_store(path.parent), path.name
    store = open_store(directory)
    return store, find_session(store, name)


def read_saved(
    store: SessionStore, name: str, agent: AgentOptions, sandbox: SandboxOptions
) -> AgentConfig:
    """The agent that was saved with a session.

    One of another store than the user's own may have come with a project; see `read_config`.
    """
    directory = SessionDirectory(store.base_dir / name)
    if _is_own(store):
        sandbox = dataclasses.replace(sandbox, trust=True)
    return read_config(directory.path / CONFIG, agent, sandbox, data=directory.read_config())


def _is_own(store: SessionStore) -> bool:
    from paddock.runtime.session.store import SessionStore

    return store.base_dir.resolve() == SessionStore().base_dir.resolve()


def create_saved(store: SessionStore, agent: Agent, *, secrets: Secrets) -> Session:
    """A new session of `store`, whose saved agent the user trusts, having given it here."""
    session = store.create_session(agent, secrets=secrets)
    if session.directory is not None and not _is_own(store):
        with contextlib.suppress(ConfigError):  # then it is asked about when it is resumed
            trust_file(session.directory.path, TrustStore())
    return session
