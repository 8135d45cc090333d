"""The telemetry database: its tables, and what can be asked of them.

SQLite in WAL mode, so that several processes write and read it at once. Knows no
session and no event; rows come from `paddock.runtime.telemetry.rows`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from paddock._directory import PrivateDirectory
from paddock.runtime.core.database import use_wal
from paddock.runtime.core.model import Usage
from paddock.runtime.models.pricing import cost_usd

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

__all__ = ["Statement", "TelemetryStorage"]

Statement = tuple[str, dict[str, Any]]
"""One write: SQL, and the values of its named places."""

LOCK_TIMEOUT = 5.0
"""Seconds to wait for another process's write to end; one takes about a millisecond."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (
    session_id TEXT PRIMARY KEY,
    team_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    agent_id TEXT,
    environment TEXT,
    profile TEXT,
    model TEXT,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    status TEXT NOT NULL DEFAULT 'active',
    total_input_tokens INTEGER NOT NULL DEFAULT 0,
    total_output_tokens INTEGER NOT NULL DEFAULT 0,
    total_reasoning_tokens INTEGER NOT NULL DEFAULT 0,
    total_tool_calls INTEGER NOT NULL DEFAULT 0,
    context_size INTEGER NOT NULL DEFAULT 0,
    metadata TEXT NOT NULL DEFAULT '{}'
);
CREATE TABLE IF NOT EXISTS costs (
    session_id TEXT PRIMARY KEY REFERENCES sessions(session_id),
    cost_usd REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS turns (
    turn_id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions(session_id),
    turn_index INTEGER NOT NULL,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    reasoning_tokens INTEGER NOT NULL DEFAULT 0,
    context_size INTEGER NOT NULL DEFAULT 0,
    user_input TEXT
);
CREATE TABLE IF NOT EXISTS tool_executions (
    execution_id TEXT PRIMARY KEY,
    turn_id TEXT REFERENCES turns(turn_id),
    tool_name TEXT NOT NULL,
    arguments TEXT,
    result TEXT,
    success INTEGER NOT NULL,
    error TEXT,
    duration_ms REAL,
    started_at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS sessions_by_tenant ON sessions(team_id, project_id, started_at);
CREATE INDEX IF NOT EXISTS sessions_by_start ON sessions(started_at);
CREATE INDEX IF NOT EXISTS turns_by_session ON turns(session_id, turn_index);
CREATE INDEX IF NOT EXISTS tool_executions_by_turn ON tool_executions(turn_id);
"""

_COSTS = """
SELECT model, COUNT(*) AS sessions,
       SUM(total_input_tokens) AS input_tokens,
       SUM(total_output_tokens) AS output_tokens,
       SUM(total_reasoning_tokens) AS reasoning_tokens,
       SUM(total_tool_calls) AS tool_calls,
       SUM(cost_usd) AS cost_usd,
       SUM(iif(cost_usd IS NULL, total_input_tokens, 0)) AS input_without_cost,
       SUM(iif(cost_usd IS NULL, total_output_tokens, 0)) AS output_without_cost
FROM sessions LEFT JOIN costs USING (session_id) {where} GROUP BY model ORDER BY model
"""

_TOOLS = """
SELECT tool_name, COUNT(*) AS calls, SUM(success) AS successes,
       COUNT(*) - SUM(success) AS failures,
       AVG(duration_ms) AS average_ms, MAX(duration_ms) AS longest_ms
FROM tool_executions JOIN turns USING (turn_id) JOIN sessions USING (session_id)
{where} GROUP BY tool_name ORDER BY calls DESC, tool_name
"""


class TelemetryStorage:
    """One connection to a telemetry database; use it as ``with``, or `close()` it.

    The file is made (mode 0600) with its tables unless `read_only`, which then raises
    `FileNotFoundError` if it is missing and refuses every write. Blocks: from an event
    loop use it in a thread, any one at a time. Raises `sqlite3.Error` for a file that is
    no database, and `OSError`.
    """

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self.path: Path = Path(path).expanduser()
        self.read_only = read_only
        self._connection = self._open()

    def close(self) -> None:
        """Idempotent."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def write(self, statements: Sequence[Statement]) -> None:
        """Do all of `statements`, or none and raise."""
        with self._transaction():
            for sql, values in statements:
                self._connection.execute(sql, values)

    def list_sessions(
        self, limit: int | None = 20, *, team_id: str | None = None, project_id: str | None = None
    ) -> list[dict[str, Any]]:
        """The newest `limit` sessions (all for None), newest first, one dictionary a row."""
        where, values = _where(team_id=team_id, project_id=project_id)
        sql = f"SELECT * FROM sessions {where} ORDER BY started_at DESC, session_id LIMIT :limit"
        return [_session(row) for row in self._rows(sql, values | {"limit": _limit(limit)})]

    def get_session(self, session_id: str) -> dict[str, Any] | None:
        """One session, None if there is no such; `turns` are its turns in order, and each
        turn's `tool_executions` its tool calls in order."""
        values = {"id": session_id}
        found = self._rows("SELECT * FROM sessions WHERE session_id = :id", values)
        if not found:
            return None
        turns = self._rows(
            "SELECT * FROM turns WHERE session_id = :id ORDER BY turn_index, started_at", values
        )
        calls = self._rows(
            "SELECT tool_executions.* FROM tool_executions JOIN turns USING (turn_id)"
            " WHERE session_id = :id ORDER BY tool_executions.started_at",
            values,
        )
        of_turn: dict[str, list[dict[str, Any]]] = {}
        for call in calls:
            of_turn.setdefault(call["turn_id"], []).append(_execution(call))
        told = [turn | {"tool_executions": of_turn.get(turn["turn_id"], [])} for turn in turns]
        return _session(found[0]) | {"turns": told}

    get_session_detail = get_session

    def get_cost_summary(
        self, team_id: str | None = None, project_id: str | None = None, days: int | None = 30
    ) -> dict[str, Any]:
        """Tokens and dollars of the sessions begun in the last `days` (None: ever), in all and
        `by_model`.

        `cost_usd` is what the sessions' model calls cost, as in their traces. Sessions of older
        versions, which did not keep it, are priced by the price list, without their caches.
        """
        where, values = _where(team_id=team_id, project_id=project_id, days=days)
        models = [_priced(row) for row in self._rows(_COSTS.format(where=where), values)]
        names = ("sessions", "input_tokens", "output_tokens", "reasoning_tokens", "tool_calls")
        sums = {name: sum(model[name] for model in models) for name in (*names, "cost_usd")}
        return sums | {"by_model": models}

    def get_tool_stats(
        self, team_id: str | None = None, project_id: str | None = None, days: int | None = 30
    ) -> list[dict[str, Any]]:
        """For each tool its `calls`, `successes`, `failures`, `average_ms` and `longest_ms`, the
        most called first; of sessions as in `get_cost_summary`. Blocked calls are failures."""
        where, values = _where(team_id=team_id, project_id=project_id, days=days)
        return self._rows(_TOOLS.format(where=where), values)

    def _open(self) -> sqlite3.Connection:
        files = PrivateDirectory(self.path.parent, shared=True)
        if self.read_only:
            if not self.path.is_file():
                raise FileNotFoundError(2, "no telemetry database", str(self.path))
            files.check_database(self.path.name)
            place = f"{self.path.resolve().as_uri()}?mode=ro"
        else:
            files.make()
            files.prepare_database(self.path.name)
            place = self.path.resolve().as_uri()
        connection = sqlite3.connect(
            place, uri=True, timeout=LOCK_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        try:
            connection.row_factory = sqlite3.Row
            if not self.read_only:
                use_wal(connection)
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # a full disk has ended it by itself
                self._connection.execute("ROLLBACK")
            raise

    def _rows(self, sql: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        return [dict(row) for row in self._connection.execute(sql, values)]


def _limit(limit: int | None) -> int:
    return -1 if limit is None else limit


def _where(
    *, team_id: str | None = None, project_id: str | None = None, days: int | None = None
) -> tuple[str, dict[str, Any]]:
    """A condition on sessions, and its values."""
    values: dict[str, Any] = {}
    conditions = []
    if team_id is not None:
        conditions.append("team_id = :team_id")
        values["team_id"] = team_id
    if project_id is not None:
        conditions.append("project_id = :project_id")
        values["project_id"] = project_id
    if days is not None:
        conditions.append("sessions.started_at >= :since")
        values["since"] = (dt.datetime.now(dt.UTC) - dt.timedelta(days=days)).isoformat()
    return (f"WHERE {' AND '.join(conditions)}" if conditions else ""), values


def _session(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"metadata": json.loads(row["metadata"] or "{}")}


def _execution(row: dict[str, Any]) -> dict[str, Any]:
    arguments = row["arguments"]
    return row | {
        "arguments": None if arguments is None else json.loads(arguments),
        "success": bool(row["success"]),
    }


def _priced(row: dict[str, Any]) -> dict[str, Any]:
    usage = Usage(
        input_tokens=row.pop("input_without_cost"), output_tokens=row.pop("output_without_cost")
    )
    return row | {"cost_usd": (row["cost_usd"] or 0.0) + cost_usd(row["model"] or "", usage)}
