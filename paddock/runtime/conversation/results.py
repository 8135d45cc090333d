"""The SDK's face: what `Session.run` shows and returns. Flat, as its users know it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self, assert_never

from paddock.errors import RunNotCompleted
from paddock.runtime.conversation.records import usage_fields
from paddock.runtime.core.emitter import TOP, EventSink
from paddock.runtime.core.events import (
    AnswerCut,
    ApprovalRequested,
    ApprovalResolved,
    ChildModelFinished,
    CommandFinished,
    CompactionFinished,
    CompactionStarted,
    CompactionTrigger,
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

if TYPE_CHECKING:
    from paddock.runtime.conversation.run_state import RunState
    from paddock.runtime.core.approval import ToolApprovalItem
    from paddock.runtime.core.emitter import Envelope, Origin
    from paddock.runtime.core.events import Event, RunStatus
    from paddock.runtime.core.model import Usage

__all__ = [
    "AgentEvent",
    "AgentEventType",
    "AgentEvents",
    "CompactResult",
    "EventCallback",
    "RunResult",
    "agent_event",
    "run_usage",
]


AgentEventType = Literal[
    "text",
    "tool_start",
    "tool_end",
    "tool_blocked",
    "api_call_complete",
    "turn_complete",
    "compact_start",
    "compact_end",
    "retry",
    "truncated",
    "error",
    "cancelled",
    "interruption",
]


@dataclass(slots=True)
class AgentEvent:
    """One event of a run; which fields are set depends on `type`.

    ``text`` (content), ``tool_start`` (tool_name, tool_call_id, tool_args), ``tool_end``
    (tool_name, tool_call_id, tool_result, and tool_metadata with ``success`` and what the
    tool tells), ``tool_blocked`` (as tool_start), ``api_call_complete`` (usage),
    ``turn_complete`` (content, usage), ``compact_start``, ``compact_end`` (content),
    ``retry``, ``truncated``, ``error``, ``cancelled`` (content), ``interruption`` (content,
    tool_name, tool_call_id, tool_args).
    """

    type: AgentEventType
    content: str | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None
    tool_args: dict[str, Any] | None = None
    tool_result: str | None = None
    tool_metadata: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None


EventCallback = Callable[[AgentEvent], Awaitable[None] | None]
"""Shown each event of a run as it happens; a slow one slows the run."""


class AgentEvents(EventSink):
    """Collects the events of the agent at `origin` in `shown`, as the SDK shows them, and shows
    them to a callback."""

    def __init__(self, on_event: EventCallback | None = None, *, origin: Origin = TOP) -> None:
        self.shown: list[AgentEvent] = []
        self._on_event = on_event
        self._origin = origin

    async def show(self, envelope: Envelope) -> None:
        event = agent_event(envelope.event) if envelope.origin == self._origin else None
        if event is None:
            return
        self.shown.append(event)
        if self._on_event is not None:
            waiting = self._on_event(event)
            if inspect.isawaitable(waiting):
                await waiting


@dataclass(slots=True)
class RunResult:
    """How a run ended.

    `text` is the final answer, or the last text before the run ended early. `status` is
    completed, error, cancelled, max_turns, budget or interrupted, and `reason` says why
    where it was error, cancelled or budget, or something else than an approval that is
    waited for interrupted it. `usage` holds this run's tokens
    (those of `Usage`, from `input_tokens` to `cost_usd`), the session's under the same
    names with ``total_`` before them, and `context_size`.

    With `AgentConfig.response_format`, `output` is the value of the answer: what its JSON
    says, or an instance of the pydantic model. It is None where there was no such answer.

    An interrupted run has in `interruptions` the calls that wait for an approval (see
    `Session.resume`), and in `state` all that is needed to continue without the session; so does
    a run that was resumed and ended without an answer. `state` is None where a resumed run
    ended before it went on: what it had gone on from holds.
    """

    text: str = ""
    events: list[AgentEvent] = field(default_factory=list)
    status: RunStatus = "completed"
    usage: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    interruptions: tuple[ToolApprovalItem, ...] = ()
    state: RunState | None = None
    output: Any = None

    def raise_for_status(self) -> Self:
        """Return the result of a run that is completed; raise `RunNotCompleted` for another."""
        if self.status != "completed":
            raise RunNotCompleted(self.status, self.reason)
        return self


@dataclass(frozen=True, slots=True)
class CompactResult:
    """A compaction: sizes of the history in tokens (estimates), and what replaced it."""

    summary: str
    tokens_before: int
    tokens_after: int
    trigger: CompactionTrigger


def run_usage(run: Usage, total: Usage, context_size: int) -> dict[str, Any]:
    totals = {f"total_{name}": value for name, value in usage_fields(total).items()}
    return {**usage_fields(run), **totals, "context_size": context_size}


def agent_event(event: Event) -> AgentEvent | None:  # noqa: C901 - one case for each event
    """What the SDK shows of `event`; None if nothing."""
    match event:
        case TextAdded():
            return AgentEvent("text", content=event.text)
        case ToolStarted():
            return _tool("tool_start", event)
        case ToolFinished():
            return AgentEvent(
                "tool_end",
                tool_name=event.tool_name,
                tool_call_id=event.call_id,
                tool_result=event.content,
                tool_metadata={**event.metadata, "success": event.success},
            )
        case ToolBlocked():
            return _tool("tool_blocked", event)
        case ApprovalRequested():
            if event.note is None:
                return None
            return _tool("interruption", event, content=event.note)
        case ModelFinished():
            usage = {**usage_fields(event.usage), "call_index": event.call_index}
            return AgentEvent("api_call_complete", usage=usage)
        case ModelRetry():
            return AgentEvent("retry", content=str(event))
        case TurnFinished():
            usage = run_usage(event.run, event.total, event.context_size)
            return AgentEvent("turn_complete", content=event.text, usage=usage)
        case CompactionStarted():
            return AgentEvent("compact_start")
        case CompactionFinished():
            shortened = f"Tool results: {event.tokens_before} -> {event.tokens_after} tokens"
            return AgentEvent("compact_end", content=event.summary or shortened)
        case AnswerCut():
            return AgentEvent("truncated", content=event.message)
        case RunFailed():
            return AgentEvent("error", content=event.message)
        case RunCancelled():
            return AgentEvent("cancelled", content=event.message)
        case ReasoningAdded() | ToolProgress() | MessageAdded() | ModelStarted():
            return None
        case ApprovalResolved() | TraceRepaired():
            return None
        case RunStarted() | RulesChanged() | RunFinished() | ChildModelFinished():
            return None
        case ProvisionStarted() | ProvisionFinished() | CommandFinished():
            return None
        case _:
            assert_never(event)


def _tool(
    kind: AgentEventType,
    event: ToolStarted | ToolBlocked | ApprovalRequested,
    *,
    content: str | None = None,
) -> AgentEvent:
    return AgentEvent(
        kind,
        content=content,
        tool_name=event.tool_name,
        tool_call_id=event.call_id,
        tool_args=dict(event.arguments),
    )
