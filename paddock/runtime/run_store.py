"""Where runs that wait for approvals are kept, so that any process may go on with them."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from paddock._concurrency import acquire, finish
from paddock._directory import PrivateDirectory
from paddock.errors import SessionError, TraceError
from paddock.runtime.api import run_prompt, take_over
from paddock.runtime.reach import require_out_of_reach
from paddock.runtime.run_state import RunState

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from paddock.runtime.api import AgentRuntime
    from paddock.runtime.results import EventCallback, RunResult

__all__ = ["RunStore", "SqliteRunStore", "run_prompt_stored"]

PATIENCE = 10.0
"""Seconds to wait for another process that writes the file: its transactions are one row."""

_CREATE = """
CREATE TABLE IF NOT EXISTS run_states (
    run_id TEXT PRIMARY KEY,
    state_json TEXT NOT NULL,
    updated_at TEXT NOT NULL
)
"""
_SAVE = "INSERT OR REPLACE INTO run_states (run_id, state_json, updated_at) VALUES (?, ?, ?)"
_LOAD = "SELECT state_json FROM run_states WHERE run_id = ?"
_TAKE = "DELETE FROM run_states WHERE run_id = ? RETURNING state_json"


class RunStore(Protocol):
    """Keeps one `RunState` for each run id. For any number of tasks and processes."""

    async def save(self, run_id: str, state: RunState) -> None:
        """Keep `state`, in place of an earlier one. Bounds its own waits."""
        ...

    async def load(self, run_id: str) -> RunState | None:
        """What is kept; None if there is nothing."""
        ...

    async def take(self, run_id: str) -> RunState | None:
        """What is kept, and forget it, in one step: of several takers one gets it.

        Cancelled, it is still kept.
        """
        ...


class SqliteRunStore:
    """A `RunStore` in a database file, which is its owner's alone (mode 0600).

    The file is made when it is first used, with its directories. Raises `SessionError`
    when it cannot be read or written, and `TraceError` for a state that is none.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()

    async def save(self, run_id: str, state: RunState) -> None:
        """See `RunStore.save`. Runs to its end if cancelled."""
        text = json.dumps(state.to_dict(), ensure_ascii=True)
        await finish(asyncio.to_thread(self._save, run_id, text))

    async def load(self, run_id: str) -> RunState | None:
        """See `RunStore.load`."""
        return _state(await asyncio.to_thread(self._one, _LOAD, run_id))

    async def take(self, run_id: str) -> RunState | None:
        """See `RunStore.take`."""

        async def put_back(text: str | None) -> None:
            if text is not None:
                await asyncio.to_thread(self._save, run_id, text)

        text = await acquire(asyncio.to_thread(self._one, _TAKE, run_id), put_back)
        try:
            return _state(text)
        except TraceError:
            await finish(put_back(text))
            raise

    def _save(self, run_id: str, text: str) -> None:
        now = dt.datetime.now(dt.UTC).isoformat()
        with self._connection() as connection:
            connection.execute(_SAVE, (run_id, text, now))

    def _one(self, sql: str, run_id: str) -> str | None:
        with self._connection() as connection:
            rows = connection.execute(sql, (run_id,)).fetchall()
        return rows[0][0] if rows else None

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection whose transaction is committed if the block does not raise."""
        try:
            files = PrivateDirectory(self.path.parent, shared=True)
            files.make()
            files.prepare_database(self.path.name)
            with contextlib.closing(sqlite3.connect(self.path, timeout=PATIENCE)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(_CREATE)
                with connection:
                    yield connection
        except (OSError, sqlite3.Error) as error:
            raise SessionError(f"cannot use the run store {self.path}: {error}") from error


async def run_prompt_stored(
    runtime: AgentRuntime,
    prompt: str,
    *,
    run_store: RunStore,
    run_id: str,
    on_event: EventCallback | None = None,
    approval_decisions: Mapping[str, bool] | None = None,
) -> RunResult:
    """`run_prompt`, which keeps a run that was interrupted in `run_store` as `run_id`.

    Where the store has such a run, that goes on with `approval_decisions`, and `prompt` is
    not sent again. It is taken out first, so nothing that was approved runs twice: neither
    in two processes, nor after the death of one, which takes the run along. If it then ends
    in any other way than by its answer it is kept again, with the results that there are, and
    the next call goes on from these; decisions about calls that have their results are passed
    over.

    Raises `ConfigError` for a file that the runtime's sandbox could write.
    """
    if isinstance(run_store, SqliteRunStore):
        await asyncio.to_thread(
            require_out_of_reach,
            run_store.path,
            runtime.session.agent.config,
            what="the run store",
            advice="choose a file elsewhere",
        )
    waiting = await run_store.take(run_id)
    if waiting is None:
        result = await run_prompt(
            runtime, prompt, on_event=on_event, approval_decisions=approval_decisions
        )
    else:
        result = await _go_on(runtime, waiting, run_store, run_id, on_event, approval_decisions)
    left = result.state
    if left is None and result.status == "interrupted":  # it did not even begin
        left = waiting
    if left is not None:
        await finish(run_store.save(run_id, left))
    return result


async def _go_on(
    runtime: AgentRuntime,
    waiting: RunState,
    run_store: RunStore,
    run_id: str,
    on_event: EventCallback | None,
    decisions: Mapping[str, bool] | None,
) -> RunResult:
    """Resume `waiting`; if that raises, put back what is left of it."""
    left: RunState | None = waiting
    state = runtime.session.state
    answered = {message.get("tool_call_id") for message in waiting.history}
    asked = {call: given for call, given in (decisions or {}).items() if call not in answered}
    try:
        take_over(runtime.session, waiting)
        before = state.runs_started
        try:
            return await run_prompt(runtime, waiting, on_event=on_event, approval_decisions=asked)
        finally:
            if state.runs_started > before:
                unfinished = state.status != "completed"
                left = RunState.of(state, waiting.system_prompt) if unfinished else None
    except BaseException:
        if left is not None:
            await finish(run_store.save(run_id, left))
        raise


def _state(text: str | None) -> RunState | None:
    if text is None:
        return None
    try:
        data = json.loads(text)
    except ValueError as error:
        raise TraceError(f"this is not the state of a run: {error}") from error
    if not isinstance(data, dict):
        raise TraceError(f"this is not the state of a run: {type(data).__name__}")
    return RunState.from_dict(data)
