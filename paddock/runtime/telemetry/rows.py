"""Telemetry as rows: what each event adds to the database.

Sums are added up in the database, so a session that several processes run one after the
other has one row with the sums of all. Knows no thread and no file.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import uuid
from typing import TYPE_CHECKING, Any

from paddock.runtime.core.events import (
    ChildModelFinished,
    ModelFinished,
    RunFinished,
    RunStarted,
    ToolBlocked,
    ToolFinished,
    ToolStarted,
)
from paddock.runtime.core.text import clean_text
from paddock.runtime.telemetry.subject import BLOCKED

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from paddock.runtime.core.emitter import Envelope
    from paddock.runtime.core.events import Event
    from paddock.runtime.core.model import Usage
    from paddock.runtime.telemetry.config import Capture
    from paddock.runtime.telemetry.subject import Subject
    from paddock.runtime.telemetry.writer import TelemetryWriter

__all__ = ["Rows"]

FAILED = "failed"
"""What stands as the error of a call whose result is not kept."""

_BEGIN = """
INSERT INTO sessions (session_id, team_id, project_id, agent_id, environment, profile, model,
                      started_at, status, metadata)
VALUES (:session_id, :team_id, :project_id, :agent_id, :environment, :profile, :model,
        :now, 'active', :metadata)
ON CONFLICT (session_id) DO UPDATE SET
    team_id = excluded.team_id, project_id = excluded.project_id,
    agent_id = excluded.agent_id, environment = excluded.environment,
    profile = excluded.profile, model = excluded.model, ended_at = NULL, status = 'active',
    metadata = json_patch(metadata, excluded.metadata)
"""
_UPDATE = """
UPDATE sessions SET profile = :profile, model = :model,
    metadata = json_patch(metadata, :metadata)
WHERE session_id = :session_id
"""
_END = "UPDATE sessions SET status = :status, ended_at = :now WHERE session_id = :session_id"
_ADD_TOKENS = """
UPDATE sessions SET
    total_input_tokens = total_input_tokens + :input_tokens,
    total_output_tokens = total_output_tokens + :output_tokens,
    total_reasoning_tokens = total_reasoning_tokens + :reasoning_tokens,
    context_size = coalesce(:context_size, context_size)
WHERE session_id = :session_id
"""
_ADD_COST = """
INSERT INTO costs (session_id, cost_usd) VALUES (:session_id, :cost_usd)
ON CONFLICT (session_id) DO UPDATE SET cost_usd = cost_usd + excluded.cost_usd
"""
_ADD_CALL = """
UPDATE sessions SET total_tool_calls = total_tool_calls + 1 WHERE session_id = :session_id
"""
_BEGIN_TURN = """
INSERT INTO turns (turn_id, session_id, turn_index, started_at, user_input)
VALUES (:turn_id, :session_id, :turn_index, :now, :user_input)
"""
_ADD_TURN_TOKENS = """
UPDATE turns SET
    input_tokens = input_tokens + :input_tokens,
    output_tokens = output_tokens + :output_tokens,
    reasoning_tokens = reasoning_tokens + :reasoning_tokens,
    context_size = coalesce(:context_size, context_size)
WHERE turn_id = :turn_id
"""
_END_TURN = "UPDATE turns SET ended_at = :now WHERE turn_id = :turn_id"
_ADD_EXECUTION = """
INSERT INTO tool_executions (execution_id, turn_id, tool_name, arguments, result, success, error,
                             duration_ms, started_at)
VALUES (:execution_id, :turn_id, :tool_name, :arguments, :result, :success, :error,
        :duration_ms, :started_at)
"""


class Rows:
    """The `Sink` of a telemetry database: a turn is a run, an execution a tool call.

    What agents do that work for the session counts for the turn that it is in: their tool calls
    are executions of it, and their model calls are its `ChildModelFinished`.
    """

    def __init__(self, writer: TelemetryWriter, capture: Capture) -> None:
        self._writer = writer
        self._capture = capture
        self._session_id = ""
        self._turn_id: str | None = None
        self._started: dict[tuple[str, str], tuple[ToolStarted, str]] = {}
        """Running calls and when they began, by their sessions' ids and their own: two agents
        may have calls of one id at the same time."""

    async def start(self, subject: Subject) -> None:
        await self._writer.start()
        self._session_id = subject.session_id
        values = _described(subject) | {"now": dt.datetime.now(dt.UTC).isoformat()}
        self._writer.put((_BEGIN, values), essential=True)

    def update(self, subject: Subject) -> None:
        self._writer.put((_UPDATE, _described(subject)), essential=True)

    def take(self, envelope: Envelope) -> None:
        now = envelope.at.isoformat()
        match envelope.event:
            case ToolStarted() as event:
                self._started[envelope.session_id, event.call_id] = event, now
            case ToolFinished() as event:
                begun = self._started.pop((envelope.session_id, event.call_id), None)
                self._end_tool(event, begun, now)
            case ToolBlocked() as event:
                self._add_execution(event.tool_name, now, event.arguments, error=BLOCKED)
            case event if not envelope.origin.agent_path:
                self._take_own(event, now)

    def around(self, envelope: Envelope) -> AbstractContextManager[object]:
        return contextlib.nullcontext()

    async def close(self, status: str) -> None:
        now = dt.datetime.now(dt.UTC).isoformat()
        values = {"session_id": self._session_id, "status": status, "now": now}
        self._writer.put((_END, values), essential=True)
        await self._writer.close()

    def release(self) -> None:
        self._writer.end()

    def _take_own(self, event: Event, now: str) -> None:
        match event:
            case RunStarted():
                self._turn_id = uuid.uuid4().hex
                self._trace(_BEGIN_TURN, turn_index=event.run_id, user_input=event.prompt, now=now)
            case RunFinished():
                self._trace(_END_TURN, now=now)
                self._turn_id = None
                self._started.clear()
            case ModelFinished():
                self._add_tokens(event.usage, context_size=event.usage.input_tokens)
            case ChildModelFinished():  # a child's context does not count for this session
                self._add_tokens(event.usage, context_size=None)

    def _add_tokens(self, usage: Usage, *, context_size: int | None) -> None:
        tokens = {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
            "context_size": context_size,
        }
        self._trace(_ADD_TURN_TOKENS, **tokens)
        self._sum(_ADD_TOKENS, **tokens)
        self._sum(_ADD_COST, cost_usd=usage.cost_usd)

    def _end_tool(
        self, event: ToolFinished, begun: tuple[ToolStarted, str] | None, now: str
    ) -> None:
        result = event.content if self._capture.tool_results else None
        self._add_execution(
            event.tool_name,
            now if begun is None else begun[1],
            None if begun is None else begun[0].arguments,
            result=result,
            duration_ms=round(event.duration * 1000, 3),
            error=None if event.success else result or FAILED,
        )

    def _add_execution(
        self,
        tool_name: str,
        started_at: str,
        arguments: Mapping[str, Any] | None,
        *,
        error: str | None,
        result: str | None = None,
        duration_ms: float = 0,
    ) -> None:
        told = arguments is not None and self._capture.tool_arguments
        self._trace(
            _ADD_EXECUTION,
            execution_id=uuid.uuid4().hex,
            tool_name=tool_name,
            arguments=_json(dict(arguments or {})) if told else None,
            result=result,
            success=int(error is None),
            error=error,
            duration_ms=duration_ms,
            started_at=started_at,
        )
        self._sum(_ADD_CALL)

    def _trace(self, sql: str, **values: Any) -> None:
        if self._capture.traces:
            known = {"session_id": self._session_id, "turn_id": self._turn_id}
            self._writer.put((sql, known | {name: _kept(each) for name, each in values.items()}))

    def _sum(self, sql: str, **values: Any) -> None:
        if self._capture.metrics:
            self._writer.put((sql, {"session_id": self._session_id} | values))


def _described(subject: Subject) -> dict[str, Any]:
    """The columns that say what a session is. Two of them come from the user's metadata."""
    agent_id = subject.metadata.get("agent_id")
    environment = subject.metadata.get("environment", subject.environment)
    return {
        "session_id": subject.session_id,
        "team_id": subject.team_id,
        "project_id": subject.project_id,
        "agent_id": None if agent_id is None else str(agent_id),
        "environment": str(environment),
        "profile": subject.profile,
        "model": subject.model,
        "metadata": _json(dict(subject.metadata)),
    }


def _json(value: object) -> str:
    return json.dumps(value, default=str)


def _kept(value: Any) -> Any:
    """`value` as SQLite takes it: a lone surrogate would be refused."""
    return clean_text(value) if isinstance(value, str) else value
