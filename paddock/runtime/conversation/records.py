"""The trace as a projection of events, and events read back from a trace.

The shapes are a file format that other programs read: fields are added, never changed.
Knows neither files nor state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from typing import TYPE_CHECKING, Any

from paddock.runtime.core.approval import Decision
from paddock.runtime.core.events import (
    AnswerCut,
    ApprovalRequested,
    ApprovalResolved,
    ChildModelFinished,
    CommandFinished,
    CompactionFinished,
    CompactionStarted,
    MessageAdded,
    ModelFinished,
    ModelRetry,
    ModelStarted,
    ProvisionFinished,
    ProvisionStarted,
    ReasoningAdded,
    RulesChanged,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    TextAdded,
    ToolBlocked,
    ToolFinished,
    ToolProgress,
    ToolStarted,
    TraceRepaired,
    TurnFinished,
)
from paddock.runtime.core.model import Usage, tool_message

if TYPE_CHECKING:
    from paddock.runtime.core.approval import ToolApprovalItem, ToolDecision
    from paddock.runtime.core.events import Event

__all__ = [
    "Record",
    "UsageSnapshot",
    "approval_record",
    "decision_record",
    "message_of",
    "records",
    "stored_event",
    "usage_fields",
    "usage_of",
]

Record = dict[str, Any]
"""One line of the trace, before its time stamps."""

_KINDS: Mapping[str, type[Any]] = {
    "run_start": RunStarted,
    "rules_changed": RulesChanged,
    "llm_start": ModelStarted,
    "llm_retry": ModelRetry,
    "llm_end": ModelFinished,
    "child_llm_end": ChildModelFinished,
    "tool_start": ToolStarted,
    "tool_end": ToolFinished,
    "tool_blocked": ToolBlocked,
    "approval_required": ApprovalRequested,
    "approval": ApprovalResolved,
    "compact": CompactionFinished,
    "truncated": AnswerCut,
    "error": RunFailed,
    "cancelled": RunCancelled,
    "trace_repaired": TraceRepaired,
}
"""Records that have the fields of an event; those of other events are written by hand."""

_NAMES = {
    "call_id": "tool_call_id",
    "arguments": "tool_args",
    "content": "result",
    "digest": "arguments_sha256",
    "policy_digest": "terms",
    "is_cut_short": "cut_short",
}
"""Fields that the format calls something else."""

_NAMES_OF: Mapping[str, Mapping[str, str | None]] = {
    "approval_required": {"expires_at": None},
    "child_llm_end": {"session_id": "child_session_id"},
    "tool_end": {"duration": "duration_ms", "metadata": None, "images": None},
}
"""The same for one type of record. None: the field is not in it."""

_TYPES = {shape: kind for kind, shape in _KINDS.items()}
_USAGE_NAMES = tuple(field.name for field in fields(Usage))


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSnapshot:
    """What the session had used up to here. A trace may begin with one."""

    total: Usage


def usage_fields(usage: Usage) -> dict[str, Any]:
    """All of `usage`, under its own names."""
    return {name: getattr(usage, name) for name in _USAGE_NAMES}


def usage_of(record: Mapping[str, Any]) -> Usage:
    """Return the usage in `record`, under its own names; what is not there is 0."""
    return Usage(**{name: record.get(name) or 0 for name in _USAGE_NAMES})


def records(event: Event) -> tuple[Record, ...]:
    """Return the records that `event` leaves in the trace, in order: mostly one."""
    match event:
        case MessageAdded():
            return ({"type": "message", **event.message},)
        case ToolFinished() | ToolBlocked():
            images = event.images if isinstance(event, ToolFinished) else ()
            message = tool_message(event.call_id, event.content, images)
            return ({"type": "message", **message}, _record(event))
        case ModelFinished():
            usage = usage_fields(event.usage)
            return (_record(event) | {"cache_read_tokens": usage["cached_tokens"], "usage": usage},)
        case ApprovalResolved():
            return (_record(event) | {"approved": event.decision.runs},)
        case RunFinished():
            return _run_finished(event)
        case ApprovalRequested(note=None):
            return ()
        case ReasoningAdded() | TextAdded() | ToolProgress() | CompactionStarted() | TurnFinished():
            return ()
        case ProvisionStarted() | ProvisionFinished() | CommandFinished():
            return ()
        case _:
            return (_record(event),)


def stored_event(record: Record) -> Event | UsageSnapshot | None:
    """Return what `record` tells; None for types that only other programs write.

    What those leave out is empty. The result of a tool call is a `MessageAdded`, and then a
    `ToolFinished` or `ToolBlocked`.
    """
    match record["type"]:
        case "message":
            return MessageAdded(message=message_of(record))
        case "usage":
            return UsageSnapshot(total=usage_of(record))
        case "run_end":
            return RunFinished(
                run_id=record.get("run_id") or 0,
                status=record.get("status") or "error",
                run=usage_of(record.get("usage") or {}),
                total=Usage(),
                run_count=0,
            )
        case kind if kind in _KINDS:
            if kind == "approval":  # other programs tell less
                approved = record.get("approved") is True
                record = {"outcome": "approve" if approved else "reject", **record}
            found: Event = _KINDS[kind](
                **{field.name: _stored(field, key, record) for field, key in _SHAPES[kind]}
            )
            return found
        case _:
            return None


def message_of(record: Record) -> dict[str, Any]:
    """Return the message in `record`, in chat format."""
    return {key: value for key, value in record.items() if key not in _NOT_MESSAGE}


def decision_record(decided: ToolDecision) -> Record:
    """The record of a decision that was taken."""
    event = ApprovalResolved.of(
        decided.decision,
        call_id=decided.tool_call_id,
        tool_name=decided.tool_name,
        digest=decided.digest,
    )
    return records(event)[0]


def decision_in(record: Record) -> Decision:
    """The decision in a record that `decision_record` made, or another program."""
    outcome: Any = record.get("outcome")
    if outcome is None:
        outcome = "approve" if record["approved"] is True else "reject"
    return Decision(
        outcome=outcome,
        feedback=record.get("feedback"),
        partial=record.get("partial"),
        by=record.get("by"),
    )


def approval_record(item: ToolApprovalItem) -> Record:
    """The record of a call that waits for an approval."""
    return {
        "type": "approval_required",
        "tool_call_id": item.tool_call_id,
        "tool_name": item.tool_name,
        "tool_args": item.tool_args,
        "arguments_sha256": item.digest,
        "approval_id": item.approval_id,
    }


def _run_finished(event: RunFinished) -> tuple[Record, Record]:
    snapshot = {"status": "running", "run_count": event.run_count}
    return (
        {"type": "usage", **usage_fields(event.total), **snapshot},
        {
            "type": "run_end",
            "run_id": event.run_id,
            "status": event.status,
            "usage": usage_fields(event.run),
        },
    )


def _record(event: Event) -> Record:
    """Return the record of an event's fields, but for those that are as they are by default."""
    kind = _TYPES[type(event)]
    record: Record = {"type": kind}
    for field, key in _SHAPES[kind]:
        value = getattr(event, field.name)
        if key == _DURATION:
            record[key] = round(value * 1000, 3)
        elif isinstance(value, Usage):
            record |= usage_fields(value)
        elif value != field.default:
            record[key] = value
    return record


def _shape(kind: str) -> tuple[tuple[Field[Any], str], ...]:
    """The fields of the record's event, each with its name there."""
    names = {**_NAMES, **_NAMES_OF.get(kind, {})}
    found = ((field, names.get(field.name, field.name)) for field in fields(_KINDS[kind]))
    return tuple((field, key) for field, key in found if key is not None)


def _stored(field: Field[Any], key: str, record: Record) -> Any:
    if field.type == "Usage":
        return usage_of({"cached_tokens": record.get("cache_read_tokens"), **record})
    value: Any = record.get(key)
    if value is None and field.default is not MISSING:
        return field.default
    value = _READ.get(str(field.type), _as_it_is)(value)
    return value / 1000 if key == _DURATION else value


def _as_it_is(value: Any) -> Any:
    return value


_NOT_MESSAGE = frozenset({"type", "ts", "timestamp"})
_DURATION = "duration_ms"
_SHAPES = {kind: _shape(kind) for kind in _KINDS}
_READ: Mapping[str, Callable[[Any], Any]] = {
    "str": lambda value: "" if value is None else str(value),
    "bool": lambda value: value is True,
    "int": lambda value: value if isinstance(value, int) else 0,
    "float": lambda value: value if isinstance(value, int | float) else 0.0,
    "Sequence[Message]": lambda value: value if isinstance(value, list) else [],
    "Mapping[str, Any]": lambda value: value if isinstance(value, Mapping) else {},
}
"""What a field may hold, by its annotation: a trace may be written by somebody else."""
