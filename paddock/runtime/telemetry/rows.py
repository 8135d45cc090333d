"""Telemetry as rows: what each record of the trace adds to the database.

Sums are added up in the database, so a session that several processes run one after the
other has one row with the sums of all. Knows no thread and no file.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paddock.runtime.core.text import clean_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from paddock.runtime.telemetry.config import Capture
    from paddock.runtime.telemetry.subject import Listener, Record, Subject
    from paddock.runtime.telemetry.writer import TelemetryWriter

__all__ = ["Telemetry"]

BLOCKED = "Blocked by user"
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


class Telemetry:
    """The `Sink` of a telemetry database: a turn is a run, an execution a tool call."""

    def __init__(self, writer: TelemetryWriter, capture: Capture) -> None:
        self._writer = writer
        self._capture = capture
        self._session_id = ""
        self._turn_id: str | None = None
        self._started: dict[tuple[str | None, str], Record] = {}

    async def start(self, subject: Subject) -> None:
        await self._writer.start()
        self._session_id = subject.session_id
        values = _described(subject) | {"now": dt.datetime.now(dt.UTC).isoformat()}
        self._writer.put((_BEGIN, values), essential=True)

    def update(self, subject: Subject) -> None:
        self._writer.put((_UPDATE, _described(subject)), essential=True)

    def on_event(self, record: Record) -> None:
        handler = _HANDLERS.get(record["type"])
        if handler is not None:
            handler(self, record)

    def below(self, subject: Subject) -> Listener:
        return _Calls(self, subject.session_id)

    async def close(self, status: str) -> None:
        now = dt.datetime.now(dt.UTC).isoformat()
        values = {"session_id": self._session_id, "status": status, "now": now}
        self._writer.put((_END, values), essential=True)
        await self._writer.close()

    def release(self) -> None:
        self._writer.end()

    def _begin_turn(self, record: Record) -> None:
        self._turn_id = uuid.uuid4().hex
        self._trace(
            _BEGIN_TURN,
            turn_index=record.get("run_id"),
            user_input=record["prompt"],
            now=record["ts"],
        )

    def _end_turn(self, record: Record) -> None:
        self._trace(_END_TURN, now=record["ts"])
        self._turn_id = None
        self._started.clear()

    def _add_tokens(self, record: Record) -> None:
        names = ("input_tokens", "output_tokens", "reasoning_tokens")
        tokens = {name: record.get(name) or 0 for name in names}
        ours = record["type"] == "llm_end"  # a child's context is none of this session's
        tokens["context_size"] = tokens["input_tokens"] if ours else None
        self._trace(_ADD_TURN_TOKENS, **tokens)
        self._sum(_ADD_TOKENS, **tokens)

    def _begin_tool(self, record: Record) -> None:
        self._started[_call_key(record)] = record

    def _end_tool(self, record: Record) -> None:
        begun = self._started.pop(_call_key(record), record)
        result = record.get("result") if self._capture.tool_results else None
        error = None if record["success"] else result or FAILED
        self._add_execution(begun, record, result=result, error=error)

    def _block_tool(self, record: Record) -> None:
        self._add_execution(record, record | {"success": False, "duration_ms": 0}, error=BLOCKED)

    def _add_execution(
        self, begun: Record, ended: Record, *, error: str | None, result: str | None = None
    ) -> None:
        arguments = begun.get("tool_args") if self._capture.tool_arguments else None
        self._trace(
            _ADD_EXECUTION,
            execution_id=uuid.uuid4().hex,
            tool_name=ended["tool_name"],
            arguments=None if arguments is None else _json(arguments),
            result=result,
            success=int(ended["success"]),
            error=error,
            duration_ms=ended.get("duration_ms"),
            started_at=begun["ts"],
        )
        self._sum(_ADD_CALL)

    def _trace(self, sql: str, **values: Any) -> None:
        if self._capture.traces:
            known = {"session_id": self._session_id, "turn_id": self._turn_id}
            self._writer.put((sql, known | {name: _kept(each) for name, each in values.items()}))

    def _sum(self, sql: str, **values: Any) -> None:
        if self._capture.metrics:
            self._writer.put((sql, {"session_id": self._session_id} | values))


@dataclass(frozen=True, slots=True)
class _Calls:
    """The tool calls of an agent that works for a session's: executions of the turn it is in.

    What its model used up stands in the session's own trace.
    """

    telemetry: Telemetry
    session_id: str

    def on_event(self, record: Record) -> None:
        if record["type"] in _TOOL_RECORDS:
            # Two agents may have calls of one id at the same time.
            self.telemetry.on_event(record | {"caller": self.session_id})


_TOOL_RECORDS = frozenset({"tool_start", "tool_end", "tool_blocked"})


def _call_key(record: Record) -> tuple[str | None, str]:
    return record.get("caller"), record["tool_call_id"]


_HANDLERS: Mapping[str, Callable[[Telemetry, Record], None]] = {
    "run_start": Telemetry._begin_turn,
    "run_end": Telemetry._end_turn,
    "llm_end": Telemetry._add_tokens,
    "child_llm_end": Telemetry._add_tokens,
    "tool_start": Telemetry._begin_tool,
    "tool_end": Telemetry._end_tool,
    "tool_blocked": Telemetry._block_tool,
}


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
