"""Sessions on disk: making, finding, resuming them. Knows no run."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
import shutil
import uuid
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock._directory import PrivateDirectory
from paddock._places import config_directory
from paddock.errors import ConfigError, SessionError
from paddock.redaction import Redactor
from paddock.runtime.agents.agent import Agent
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.conversation.directory import CONFIG, SessionDirectory
from paddock.runtime.conversation.glance import last_status, mentions
from paddock.runtime.conversation.index import SessionIndex
from paddock.runtime.conversation.state import State
from paddock.runtime.core.reach import require_out_of_reach
from paddock.runtime.session.session import Session

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterator, Mapping

    from paddock.runtime.core.model import ModelClient

__all__ = ["SessionInfo", "SessionStore"]

DIRECTORY_VARIABLE = "PADDOCK_SESSIONS_DIR"
PREVIEW_LENGTH = 60

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One line of a list of sessions.

    `status` is created, running, or how the last run ended. A session whose process
    died while it ran is interrupted. `created_at` is in UTC.
    """

    id: str
    status: str
    created_at: dt.datetime
    model: str
    profile: str
    first_prompt: str

    @property
    def display_preview(self) -> str:
        """The first prompt on one line, cut to what a list has room for."""
        text = " ".join(self.first_prompt.split())
        return text if len(text) <= PREVIEW_LENGTH else text[:PREVIEW_LENGTH] + "..."


class SessionStore:
    """The sessions below one directory, which is made when the first one is.

    The default is ``$PADDOCK_SESSIONS_DIR``, else ``~/.config/paddock/sessions`` (where
    the platform keeps configuration). The file system has to be a local one: locks on
    network file systems are not to be relied on.
    """

    def __init__(self, base_dir: str | os.PathLike[str] | None = None) -> None:
        self.base_dir: Path = (
            _default_directory() if base_dir is None else Path(base_dir).expanduser()
        )
        self._files = PrivateDirectory(self.base_dir, shared=True)
        self._index = SessionIndex(self._files)

    def create_session(
        self,
        agent: Agent,
        *,
        session_id: str | None = None,
        client: ModelClient | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> Session:
        """A new session of `agent` that writes everything to a directory of its own.

        `client` and `secrets` are as with `Session`: of the agent's the names are written,
        and no values. Raises `SessionError` if there is a session of this id. A session
        that could not be written leaves nothing behind.
        """
        require_out_of_reach(self.base_dir, agent.config, what="the directory of the sessions")
        self._files.make()
        name = session_id or uuid.uuid4().hex[:8]
        directory = self._directory(name)
        redactor = Redactor({**agent.secrets, **(secrets or {})})
        config = redactor.data(agent.config.to_yaml(partial=True))
        try:
            directory.path.mkdir(mode=0o700)
        except FileExistsError as error:
            raise SessionError(f"session {name} exists already") from error
        now = dt.datetime.now(dt.UTC).isoformat()
        try:
            directory.write_config(config)
            directory.update_meta(
                id=name,
                status="created",
                created_at=now,
                started_at=now,
                model=agent.config.model,
                profile=_profile_name(agent),
                first_prompt="",
            )
        except BaseException:
            shutil.rmtree(directory.path, ignore_errors=True)  # or the id would be taken
            raise
        self._index.add(name, now)
        return Session(
            agent, session_id=name, session_dir=directory.path, client=client, secrets=secrets
        )

    def resume(
        self,
        session_id: str,
        agent: Agent | None = None,
        *,
        agent_config: AgentConfig | None = None,
        client: ModelClient | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> Session:
        """The session `session_id` (or the only one whose id begins so), to continue it.

        Without `agent` and `agent_config` the agent is the one that was saved with it.
        A call that was running when its process died gets a result that says so; it is not run
        again, unless its tool can continue it and the run is resumed. A long trace is read when
        the next run begins, without holding up the event loop, or when `Session.state` is first
        used. Raises `FileNotFoundError`, `SessionLocked` if another process runs it, `TraceError`
        if its trace is damaged (a long one: when it is read), and `TypeError` where both `agent`
        and `agent_config` are given.
        """
        if agent is not None and agent_config is not None:
            raise TypeError("resume() takes an agent or the configuration of one, not both")
        directory = self._directory(self.find(session_id))
        if agent is None:
            agent = Agent(agent_config or _saved_config(directory))
        session = Session(
            agent,
            session_id=directory.path.name,
            session_dir=directory.path,
            client=client,
            secrets=secrets,
        )
        session.recover(later=directory.has_long_trace)
        directory.clear_cancel()
        return session

    def find(self, prefix: str) -> str:
        """The id that is `prefix` or begins with it; `SessionError` if there are several."""
        if not _ID.fullmatch(prefix):
            raise FileNotFoundError(f"Session not found: {prefix}")
        names = list(self._names())
        if prefix in names:
            return prefix
        found = [name for name in names if name.startswith(prefix)]
        if not found:
            raise FileNotFoundError(f"Session not found: {prefix}")
        if len(found) > 1:
            raise SessionError(f"{prefix} may be any of: {', '.join(sorted(found))}")
        return found[0]

    def info(self, session_id: str) -> SessionInfo:
        """What a list would show of one session; finds it as `resume` does."""
        return _read_info(self._directory(self.find(session_id)))

    def list(self, limit: int | None = 20) -> list[SessionInfo]:
        """The newest `limit` sessions, newest first; all of them for None."""
        names = [name for _, name in self._newest_first()]
        return [_read_info(self._directory(name)) for name in names[:limit]]

    def search(self, text: str, limit: int | None = 20) -> builtins.list[SessionInfo]:
        """The newest `limit` sessions in whose conversation `text` occurs, newest first.

        Prompts, answers and results of tools are looked at, in any case of letters. It
        reads traces until it has found enough; on an event loop do it in a thread.
        """
        found = (name for _, name in self._newest_first() if mentions(self._directory(name), text))
        return [_read_info(self._directory(name)) for name in islice(found, limit)]

    def get_latest_id(self) -> str | None:
        """The id of the newest session; None if there is none."""
        return next((name for _, name in self._newest_first()), None)

    def update_status(self, session_id: str, status: str) -> None:
        """Note another status for a session; raises `FileNotFoundError`."""
        self._directory(self.find(session_id)).update_meta(status=status)

    def load_state(self, session_id: str) -> State:
        """The conversation of a session, to look at. Takes no lock and repairs nothing."""
        directory = self._directory(self.find(session_id))
        state = State.from_jsonl(directory.read_trace())
        state.session_id = directory.path.name
        return state

    def _directory(self, session_id: str) -> SessionDirectory:
        if not _ID.fullmatch(session_id):
            raise ConfigError(f"{session_id!r} cannot be the id of a session")
        return SessionDirectory(self.base_dir / session_id)

    def _newest_first(self) -> builtins.list[tuple[str, str]]:
        """When each session was made (UTC, ISO 8601) and its id."""
        known = self._index.read()
        made = [(known.get(name) or self._made_at(name), name) for name in self._names()]
        return sorted(made, reverse=True)

    def _made_at(self, name: str) -> str:
        directory = self._directory(name)
        return _created_at(directory.read_meta(), directory).astimezone(dt.UTC).isoformat()

    def _names(self) -> Iterator[str]:
        with contextlib.suppress(FileNotFoundError):
            yield from filter(_ID.fullmatch, self._files.directories())


def _default_directory() -> Path:
    given = os.environ.get(DIRECTORY_VARIABLE)
    if given:
        return Path(given).expanduser()
    return config_directory() / "sessions"


def _saved_config(directory: SessionDirectory) -> AgentConfig:
    """The agent that was saved with a session."""
    source = str(directory.path / CONFIG)
    try:
        return AgentConfig.from_yaml(directory.read_config(), source=source)
    except FileNotFoundError:
        raise FileNotFoundError(f"Config file not found: {source}") from None


def _profile_name(agent: Agent) -> str:
    profile = agent.registry.profile
    return "" if profile is None else profile.name


def _read_info(directory: SessionDirectory) -> SessionInfo:
    meta = directory.read_meta()
    status = str(meta.get("status") or "unknown")
    if status == "running" and not directory.locked():
        status = last_status(directory) or "interrupted"
    return SessionInfo(
        id=directory.path.name,
        status=status,
        created_at=_created_at(meta, directory),
        model=str(meta.get("model") or ""),
        profile=str(meta.get("profile") or ""),
        first_prompt=str(meta.get("first_prompt") or ""),
    )


def _created_at(meta: dict[str, Any], directory: SessionDirectory) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(meta["created_at"])
    except (KeyError, TypeError, ValueError):
        modified = directory.path.lstat().st_mtime
        return dt.datetime.fromtimestamp(modified, dt.UTC)
