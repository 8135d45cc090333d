"""Where runs that wait for approvals are kept, so that any process may go on with them.

Who goes on with a run claims it first, for a while, and renews the claim while it works. What the
run has done is kept as it goes, so when a worker dies another one claims the run and goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from paddock._concurrency import acquire, finish
from paddock._logs import get_logger
from paddock.errors import RunClaimed, SessionError, TraceError
from paddock.runtime.core.database import PrivateDatabase
from paddock.runtime.core.emitter import EventSink
from paddock.runtime.reach import require_out_of_reach
from paddock.runtime.run_state import RunState
from paddock.runtime.service.runtime import run_prompt, take_over

if TYPE_CHECKING:
    import os
    import sqlite3
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from paddock.runtime.results import EventCallback, RunResult
    from paddock.runtime.service.runtime import AgentRuntime

__all__ = ["Claim", "RunStore", "SqliteRunStore", "run_prompt_stored"]

T = TypeVar("T")

CLAIM = 60.0
"""Seconds for which a claim holds: longer than a worker's event loop is ever held up, and short
enough to wait for when a worker has died."""

RENEWALS = 3
"""How often a claim is renewed in the time for which it holds."""

_log = get_logger(__name__)

_CREATE = """
CREATE TABLE IF NOT EXISTS run_states (
    run_id TEXT PRIMARY KEY,
    state_json TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS run_claims (
    run_id TEXT PRIMARY KEY,
    token TEXT NOT NULL,
    until REAL NOT NULL
);
"""
_SAVE = "INSERT OR REPLACE INTO run_states (run_id, state_json, updated_at) VALUES (?, ?, ?)"
_LOAD = "SELECT state_json FROM run_states WHERE run_id = ?"
_FORGET = "DELETE FROM run_states WHERE run_id = ?"
_CLAIM = "INSERT OR REPLACE INTO run_claims (run_id, token, until) VALUES (?, ?, ?)"
_CLAIMED = "SELECT token, until FROM run_claims WHERE run_id = ?"
_RELEASE = "DELETE FROM run_claims WHERE run_id = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to go on with a run, until it expires; `state` is what was kept of it."""

    run_id: str
    token: str
    state: RunState | None


class RunStore(Protocol):
    """Keeps one `RunState` for each run id. For any number of tasks and processes.

    Every method bounds its own waits, and has had its effect or none when it is cancelled.
    """

    async def save(self, run_id: str, state: RunState) -> None:
        """Keep `state`, in place of an earlier one, whoever has claimed the run."""
        ...

    async def load(self, run_id: str) -> RunState | None:
        """What is kept; None if there is nothing."""
        ...

    async def claim(self, run_id: str, *, seconds: float) -> Claim:
        """Claim a run, whether anything is kept of it or not.

        Raises `RunClaimed` while another claim of it holds.
        """
        ...

    async def renew(self, claim: Claim, state: RunState | None, *, seconds: float) -> None:
        """Hold the claim for so many seconds from now, and keep `state` unless it is None.

        Raises `RunClaimed`, and keeps nothing, if somebody else has claimed the run.
        """
        ...

    async def release(self, claim: Claim, state: RunState | None) -> None:
        """End the claim. Keep `state`, or forget the run if it is None. Raises `RunClaimed`."""
        ...


class SqliteRunStore:
    """A `RunStore` in a database file, which is its owner's alone (mode 0600).

    The file is made when it is first used, with its directories. Raises `SessionError`
    when it cannot be read or written, and `TraceError` for a state that is none.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._database = PrivateDatabase(path, _CREATE, what="run store")

    @property
    def path(self) -> Path:
        return self._database.path

    async def save(self, run_id: str, state: RunState) -> None:
        """See `RunStore.save`."""
        text = _json(state)
        await self._database.do(lambda connection: _save(connection, run_id, text))

    async def load(self, run_id: str) -> RunState | None:
        """See `RunStore.load`."""
        return _state(await self._database.do(lambda connection: _one(connection, _LOAD, run_id)))

    async def claim(self, run_id: str, *, seconds: float) -> Claim:
        """See `RunStore.claim`."""
        token = secrets.token_hex(8)

        def claim(connection: sqlite3.Connection) -> str | None:
            _require_free(connection, run_id)
            connection.execute(_CLAIM, (run_id, token, time.time() + seconds))
            text: str | None = _one(connection, _LOAD, run_id)
            return text

        def unclaim(connection: sqlite3.Connection) -> None:
            connection.execute(_RELEASE, (run_id,))

        async def give_back(_: object) -> None:
            await self._database.do(unclaim)

        text = await acquire(self._database.do(claim), give_back)
        try:
            return Claim(run_id=run_id, token=token, state=_state(text))
        except TraceError:
            await self._database.do(unclaim)
            raise

    async def renew(self, claim: Claim, state: RunState | None, *, seconds: float) -> None:
        """See `RunStore.renew`."""
        text = None if state is None else _json(state)

        def renew(connection: sqlite3.Connection) -> None:
            _require_ours(connection, claim)
            connection.execute(_CLAIM, (claim.run_id, claim.token, time.time() + seconds))
            if text is not None:
                _save(connection, claim.run_id, text)

        await self._database.do(renew)

    async def release(self, claim: Claim, state: RunState | None) -> None:
        """See `RunStore.release`."""
        text = None if state is None else _json(state)

        def release(connection: sqlite3.Connection) -> None:
            _require_ours(connection, claim)
            connection.execute(_RELEASE, (claim.run_id,))
            if text is None:
                connection.execute(_FORGET, (claim.run_id,))
            else:
                _save(connection, claim.run_id, text)

        await self._database.do(release)


def _save(connection: sqlite3.Connection, run_id: str, text: str) -> None:
    connection.execute(_SAVE, (run_id, text, dt.datetime.now(dt.UTC).isoformat()))


def _one(connection: sqlite3.Connection, sql: str, run_id: str) -> str | None:
    row = connection.execute(sql, (run_id,)).fetchone()
    return None if row is None else row[0]


def _require_free(connection: sqlite3.Connection, run_id: str) -> None:
    """Raise `RunClaimed` while a claim of the run holds."""
    row = connection.execute(_CLAIMED, (run_id,)).fetchone()
    left = 0.0 if row is None else row[1] - time.time()
    if left > 0:
        raise RunClaimed(run_id, seconds=left)


def _require_ours(connection: sqlite3.Connection, claim: Claim) -> None:
    """Raise `RunClaimed` if somebody else has claimed the run since. A claim that has expired
    holds as well as before, as long as nobody has."""
    row = connection.execute(_CLAIMED, (claim.run_id,)).fetchone()
    if row is None or row[0] != claim.token:
        raise RunClaimed(claim.run_id, seconds=0.0)


async def run_prompt_stored(
    runtime: AgentRuntime,
    prompt: str,
    *,
    run_store: RunStore,
    run_id: str,
    on_event: EventCallback | None = None,
    approval_decisions: Mapping[str, bool] | None = None,
) -> RunResult:
    """`run_prompt`, for a run that is kept in `run_store` as `run_id` until it has an answer.

    Where the store has such a run, that goes on with `approval_decisions`, and `prompt` is
    not sent again; decisions about calls that have their results are passed over.

    The run is claimed while it goes on: of two workers the second gets `RunClaimed`. What it has
    done is kept before each call begins and when it has a result. So when a worker dies, the
    next one goes on after its claim has expired, and no call that had begun runs again. A run
    that ends in any other way than by its answer stays in the store, too.

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
    claim = await run_store.claim(run_id, seconds=CLAIM)
    kept = _KeptRun(run_store, claim, runtime)
    try:
        async with kept.renewing():
            return await kept.go_on(prompt, on_event, approval_decisions)
    finally:
        await finish(run_store.release(claim, kept.left()))


class _KeptRun(EventSink):
    """Keeps a run in its store while it goes on."""

    def __init__(self, store: RunStore, claim: Claim, runtime: AgentRuntime) -> None:
        self._store = store
        self._claim = claim
        self._runtime = runtime
        self._session = runtime.session
        self._runs = self._session.state.runs_started

    async def go_on(
        self, prompt: str, on_event: EventCallback | None, decisions: Mapping[str, bool] | None
    ) -> RunResult:
        """Resume the run that was kept, or begin it with `prompt`."""
        waiting = self._claim.state
        if waiting is None:
            return await run_prompt(
                self._runtime,
                prompt,
                on_event=on_event,
                approval_decisions=decisions,
                sinks=[self],
            )
        answered = {message.get("tool_call_id") for message in waiting.history}
        asked = {call: given for call, given in (decisions or {}).items() if call not in answered}
        take_over(self._session, waiting)
        self._runs = self._session.state.runs_started
        return await run_prompt(
            self._runtime, waiting, on_event=on_event, approval_decisions=asked, sinks=[self]
        )

    async def sync(self) -> None:
        await self._store.renew(self._claim, self._now(), seconds=CLAIM)

    def left(self) -> RunState | None:
        """What is to be kept of the run at its end."""
        state = self._session.state
        if state.runs_started == self._runs:
            return self._claim.state
        return None if state.status == "completed" else self._now()

    def _now(self) -> RunState:
        waiting, session = self._claim.state, self._session
        if waiting is not None:
            return RunState.of(session.state, waiting.system_prompt)
        given = session.system_prompt
        prompt = session.agent.system_prompt if given is None else given
        return RunState.of(session.state, session.redactor.text(prompt))

    @contextlib.asynccontextmanager
    async def renewing(self) -> AsyncIterator[None]:
        """The claim is renewed while the block runs."""
        task = asyncio.create_task(self._renew(), name="claim of a run")
        try:
            yield
        finally:
            task.cancel()
            await finish(_ended(task))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(CLAIM / RENEWALS)
            try:
                await self._store.renew(self._claim, None, seconds=CLAIM)
            except RunClaimed as error:
                self._session.cancel(str(error))
                return
            except SessionError as error:
                _log.warning("the claim of a run could not be renewed: %s", error)


async def _ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task])


def _json(state: RunState) -> str:
    return json.dumps(state.to_dict(), ensure_ascii=True)


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
