"""Runs that are kept until they have an answer, so that any process may continue them."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from typing import TYPE_CHECKING

from paddock.errors import SessionError
from paddock.runtime.conversation import claimed
from paddock.runtime.conversation.run_state import RunState
from paddock.runtime.conversation.sqlite import SqliteConversationRows, SqliteConversationStore
from paddock.runtime.service.runtime import run_prompt

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from paddock.runtime.conversation.claimed import ConversationRows
    from paddock.runtime.conversation.results import EventCallback, RunResult
    from paddock.runtime.conversation.state import State
    from paddock.runtime.conversation.store import ConversationStore
    from paddock.runtime.service.runtime import AgentRuntime
    from paddock.runtime.session.session import Session

__all__ = ["SqliteRunStore", "run_prompt_stored"]

_CREATE = """
CREATE TABLE IF NOT EXISTS run_states (
    run_id TEXT PRIMARY KEY,
    state_json TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
"""
_SHOW = "INSERT OR REPLACE INTO run_states (run_id, state_json, updated_at) VALUES (?, ?, ?)"
_HIDE = "DELETE FROM run_states WHERE run_id = ?"


class SqliteRunStore(SqliteConversationStore):
    """A store of runs in a database file.

    Its table ``run_states`` has the `RunState` of each run that no worker is working on, as JSON,
    for other programs to read.
    """

    schema: str = SqliteConversationStore.schema + _CREATE

    def below(self, conversation_id: str) -> ConversationStore:
        """See `ConversationStore.below`: those are no runs of their own."""
        return SqliteConversationStore(self.path).below(conversation_id)

    async def save(self, run_id: str, state: RunState) -> None:
        """Keep `state`, and replace an earlier one, even of a claimed run."""
        restored = state.to_state()
        restored.system_prompt = state.system_prompt

        def save(connection: sqlite3.Connection) -> None:
            rows = SqliteConversationRows(connection)
            claimed.store(rows, run_id, restored.snapshot())
            self.on_close(rows, run_id)

        await self.database.do(save)

    async def load(self, run_id: str) -> RunState | None:
        """Return what is kept; None if there is nothing. Raises `TraceError` if it is damaged."""
        state = await asyncio.to_thread(self.read, run_id)
        return None if state is None else _run_state(state)

    def on_close(self, rows: ConversationRows, conversation_id: str) -> None:
        assert isinstance(rows, SqliteConversationRows), "they are those of this store"
        connection = rows.connection
        state = claimed.load(rows, conversation_id)
        if state is None:
            connection.execute(_HIDE, (conversation_id,))
            return
        text = json.dumps(_run_state(state).to_dict(), ensure_ascii=True, default=repr)
        now = dt.datetime.now(dt.UTC).isoformat()
        connection.execute(_SHOW, (conversation_id, text, now))


def _run_state(state: State) -> RunState:
    return RunState.of(state, state.system_prompt or "")


async def run_prompt_stored(
    runtime: AgentRuntime,
    prompt: str,
    *,
    run_store: ConversationStore,
    run_id: str,
    on_event: EventCallback | None = None,
    approval_decisions: Mapping[str, bool] | None = None,
) -> RunResult:
    """`run_prompt`, for a run that is kept in `run_store` as `run_id` until it has an answer.

    If the store has such a run, it continues with `approval_decisions`, and `prompt` is not sent
    again; decisions about calls that have their results are ignored.

    The run is held while it works: of two workers the second gets `SessionLocked`, which of a
    `SqliteRunStore` is `RunClaimed`. What it has done is kept before each call begins and when it
    has a result. So when a worker dies, the next one continues once the hold has expired, and no
    call that had begun runs again. A run that ends in any other way than by its answer stays in
    the store, too.

    Raises `ConfigError` for a store that the runtime's sandbox could write, and `SessionError`
    for a session that is kept in a directory or store of its own.
    """
    session, decisions = runtime.session, approval_decisions
    with session.kept_in(run_store, run_id):
        known = await asyncio.to_thread(run_store.read, run_id)
        if known is None:
            session.state.system_prompt = await asyncio.to_thread(_system_prompt, session)
            return await run_prompt(
                runtime, prompt, on_event=on_event, approval_decisions=decisions
            )
        _adopt(session, known)
        used = _used(known)
        asked = {call: given for call, given in (decisions or {}).items() if call not in used}
        return await session.resume(asked, on_event=on_event)


def _system_prompt(session: Session) -> str:
    given = session.system_prompt
    return session.redactor.text(session.agent.system_prompt if given is None else given)


def _adopt(session: Session, known: State) -> None:
    """Let `session` continue the conversation `known`, if it has none yet or has this one."""
    state = session.state
    if (state.messages, state.pending_approvals) == (known.messages, known.pending_approvals):
        state.trace_end = known.trace_end
    elif state.messages or state.runs_started:
        raise SessionError(f"session {session.id} has another conversation than this run")
    else:
        session.system_prompt = known.system_prompt


def _used(known: State) -> set[str]:
    """Return the calls whose decisions were used: those that have begun."""
    answered = {message["tool_call_id"] for message in known.messages if message["role"] == "tool"}
    return answered | {call.id for call in known.open_calls if call.started}
