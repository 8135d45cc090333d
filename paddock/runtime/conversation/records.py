"""The trace as a projection: which records an event leaves, and what is in them.

The shapes are a file format that other programs read: fields are added, never changed.
Knows neither files nor state.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, assert_never

from paddock.runtime.core.approval import Decision, ToolApprovalItem, ToolDecision
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
from paddock.runtime.core.model import tool_message

if TYPE_CHECKING:
    from paddock.runtime.core.events import Event
    from paddock.runtime.core.model import Message, Usage

__all__ = [
    "Record",
    "approval_record",
    "decision_record",
    "records",
    "usage_fields",
]

Record = dict[str, Any]
"""One line of the trace, before its time stamps."""


def usage_fields(usage: Usage) -> dict[str, Any]:
    """All of `usage`, under its own names."""
    return asdict(usage)


def records(event: Event) -> tuple[Record, ...]:  # noqa: C901 - one case for each event
    """The records that `event` leaves in the trace, in order; most leave one, some none."""
    match event:
        case MessageAdded():
            return (_message(event.message),)
        case TextAdded() | ToolProgress() | CompactionStarted() | TurnFinished():
            return ()
        case ProvisionStarted() | ProvisionFinished() | CommandFinished():
            return ()
        case ModelStarted():
            return (_llm_start(event),)
        case ModelRetry():
            return ({"type": "llm_retry", **asdict(event)},)
        case ModelFinished():
            return (_llm_end(event),)
        case ChildModelFinished():
            return (_child_llm_end(event),)
        case ToolStarted():
            return (_tool("tool_start", event, tool_args=event.arguments),)
        case ToolFinished():
            return (_message(tool_message(event.call_id, event.content)), _tool_end(event))
        case ToolBlocked():
            blocked = _tool("tool_blocked", event, tool_args=event.arguments)
            return (_message(tool_message(event.call_id, event.content)), blocked)
        case ApprovalResolved():
            return (_approval(event),)
        case ApprovalRequested():
            return () if event.note is None else (_approval_required(event),)
        case CompactionFinished():
            return (_compact(event),)
        case RunStarted():
            return (_run_start(event),)
        case RulesChanged():
            return ({"type": "rules_changed", **_rules(event)},)
        case AnswerCut():
            return ({"type": "truncated", "message": event.message},)
        case RunFailed():
            return ({"type": "error", "message": event.message},)
        case RunCancelled():
            return ({"type": "cancelled", "message": event.message, "reason": event.reason},)
        case TraceRepaired():
            return (
                {
                    "type": "trace_repaired",
                    "torn_bytes": event.torn_bytes,
                    "quarantine": event.quarantine,
                },
            )
        case RunFinished():
            return (_usage(event), _run_end(event))
        case _:
            assert_never(event)


def _message(message: Message) -> Record:
    return {"type": "message", **message}


def _tool(
    kind: str,
    event: ToolStarted | ToolFinished | ToolBlocked,
    **fields: object,
) -> Record:
    return {"type": kind, "tool_call_id": event.call_id, "tool_name": event.tool_name, **fields}


def _tool_end(event: ToolFinished) -> Record:
    return _tool(
        "tool_end",
        event,
        success=event.success,
        result=event.content,
        duration_ms=round(event.duration * 1000, 3),
    )


def _approval(event: ApprovalResolved) -> Record:
    return decision_record(
        ToolDecision(
            tool_call_id=event.call_id,
            tool_name=event.tool_name,
            digest=event.digest,
            decision=event.decision,
        )
    )


def decision_record(decided: ToolDecision) -> Record:
    """The record of a decision that was taken."""
    decision = decided.decision
    optional = {"feedback": decision.feedback, "partial": decision.partial, "by": decision.by}
    return {
        "type": "approval",
        "tool_call_id": decided.tool_call_id,
        "tool_name": decided.tool_name,
        "approved": decision.runs,
        "outcome": decision.outcome,
        "arguments_sha256": decided.digest,
        **{name: value for name, value in optional.items() if value is not None},
    }


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


def _approval_required(event: ApprovalRequested) -> Record:
    item = ToolApprovalItem(
        event.call_id, event.tool_name, dict(event.arguments), event.digest, event.approval_id
    )
    return {**approval_record(item), "note": event.note}


def _llm_start(event: ModelStarted) -> Record:
    return {"type": "llm_start", "model": event.model, "context_size": event.context_size}


def _llm_end(event: ModelFinished) -> Record:
    fields = usage_fields(event.usage)
    return {
        "type": "llm_end",
        "model": event.model,
        "call_index": event.call_index,
        **fields,
        "cache_read_tokens": event.usage.cached_tokens,
        "usage": fields,
        **({"cut_short": True} if event.is_cut_short else {}),
    }


def _child_llm_end(event: ChildModelFinished) -> Record:
    return {
        "type": "child_llm_end",
        "tool_call_id": event.call_id,
        "child_session_id": event.session_id,
        "model": event.model,
        **usage_fields(event.usage),
    }


def _compact(event: CompactionFinished) -> Record:
    return {
        "type": "compact",
        "tokens_before": event.tokens_before,
        "tokens_after": event.tokens_after,
        "trigger": event.trigger,
        "summary": event.summary,
        "kept": list(event.kept),
    }


def _run_start(event: RunStarted) -> Record:
    return {
        "type": "run_start",
        "run_id": event.run_id,
        "session_id": event.session_id,
        "prompt": event.prompt,
        **_rules(event),
        **({"resumed": True} if event.resumed else {}),
    }


def _rules(event: RunStarted | RulesChanged) -> dict[str, str]:
    return {"profile": event.profile, "approvals": event.approvals, "terms": event.terms}


def _usage(event: RunFinished) -> Record:
    snapshot = {"status": "running", "run_count": event.run_count}
    return {"type": "usage", **usage_fields(event.total), **snapshot}


def _run_end(event: RunFinished) -> Record:
    usage = usage_fields(event.run)
    return {"type": "run_end", "run_id": event.run_id, "status": event.status, "usage": usage}
