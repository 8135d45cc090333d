"""A session as lines for a person: a projection of its events, one by one, and their sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.text import Text

from paddock.cli.render import describe_call, describe_usage, render_result
from paddock.cli.text import plain
from paddock.runtime.conversation.records import UsageSnapshot, stored_event, usage_fields
from paddock.runtime.core.events import (
    ApprovalRequested,
    ChildModelFinished,
    CompactionFinished,
    MessageAdded,
    ModelFinished,
    ModelRetry,
    ModelStarted,
    RulesChanged,
    RunCancelled,
    RunFailed,
    RunFinished,
    RunStarted,
    ToolBlocked,
    ToolFinished,
    ToolStarted,
)
from paddock.runtime.core.model import Usage

if TYPE_CHECKING:
    from paddock.runtime.conversation.records import Record
    from paddock.runtime.core.events import Event

__all__ = ["Timeline"]


@dataclass
class Timeline:
    """Shows the events of one session in their order; model calls and tool calls with their
    time, model calls with their cost."""

    _runs: int = 0
    _model_calls: int = 0
    _tool_calls: int = 0
    _usage: Usage = field(default_factory=Usage)
    _asked: datetime | None = None

    def render_record(self, record: Record) -> Text | None:
        """One record of a trace, as `render` shows its event."""
        event = stored_event(record)
        if event is None or isinstance(event, UsageSnapshot):
            return None
        try:
            return self.render(event, datetime.fromisoformat(str(record.get("ts"))))
        except ValueError:
            return self.render(event, None)

    def render(self, event: Event, at: datetime | None) -> Text | None:
        """What happened, with the time of day before it; None for what tells a person nothing."""
        self._count(event)
        body = self._model_call(event, at) if isinstance(event, ModelFinished) else _body(event)
        if isinstance(event, ModelStarted):
            self._asked = at
        if body is None:
            return None
        time = " " * 8 if at is None else at.astimezone().strftime("%H:%M:%S")
        return Text.assemble((f"{time}  ", "dim"), body)

    @property
    def total(self) -> Text:
        """What all of it took."""
        counts = (
            (self._runs, "run"),
            (self._model_calls, "model call"),
            (self._tool_calls, "tool call"),
        )
        told = ", ".join(f"{count} {what}{'s' * (count != 1)}" for count, what in counts)
        return Text(f"total: {told}: {_cost(self._usage)}", style="bold")

    def _count(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._runs += 1
            case ToolFinished():
                self._tool_calls += 1
            case ModelFinished() | ChildModelFinished():
                self._model_calls += 1
                self._usage += event.usage

    def _model_call(self, event: ModelFinished, at: datetime | None) -> Text:
        took = ""
        if self._asked is not None and at is not None:
            took = f" in {_seconds((at - self._asked).total_seconds())}"
        return Text(f"· {plain(event.model)} answered{took}: {_cost(event.usage)}", style="dim")


def _body(event: Event) -> Text | None:
    match event:
        case RunStarted():
            return Text.assemble(("run  ", "bold magenta"), plain(event.prompt))
        case MessageAdded(message={"role": "assistant", "content": str(text)}) if text:
            return Text(plain(text))
        case ToolFinished():
            took = f" in {_seconds(event.duration)}" if event.duration else ""
            success = {"success": event.success}
            return render_result(f"{event.tool_name}{took}", event.content, success)
        case RunFailed() | RunCancelled():
            kind = "error" if isinstance(event, RunFailed) else "cancelled"
            return Text(f"✗ {kind}: {plain(event.message)}", style="red")
        case RunFinished():
            return Text(f"{plain(str(event.status))}: {_cost(event.run)}", style="bold")
        case ToolStarted() | ToolBlocked() | ApprovalRequested():
            call = describe_call(event.tool_name, event.arguments)
            return Text.assemble(_CALLS[type(event)], call)
        case _:
            change = _change(event)
            return None if change is None else Text(plain(change), style="yellow")


_CALLS: Mapping[type[Any], tuple[str, str]] = {
    ToolStarted: ("→ ", "bold cyan"),
    ToolBlocked: ("✗ not allowed: ", "yellow"),
    ApprovalRequested: ("? waits for an approval: ", "yellow"),
}


def _change(event: Event) -> str | None:
    """What is another way from here on."""
    match event:
        case CompactionFinished():
            return f"compacted: {event.tokens_before} -> {event.tokens_after} tokens"
        case ModelRetry():
            return f"{event.reason}, retried after {_seconds(event.wait)}"
        case RulesChanged():
            return f"rules changed: profile {event.profile}, approvals {event.approvals}"
        case _:
            return None


def _cost(usage: Usage) -> str:
    return describe_usage(usage_fields(usage))


def _seconds(duration: float) -> str:
    return f"{duration:.1f} s" if duration >= 1 else f"{duration * 1000:.0f} ms"
