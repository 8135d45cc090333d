"""A trace as lines for a person: a projection of its records, one by one, and their sums."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.text import Text

from paddock.cli.render import describe_call, describe_usage, render_result
from paddock.cli.text import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Timeline"]

_SUMMED = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "cost_usd")


@dataclass
class Timeline:
    """Shows the records of one trace in their order; model calls and tool calls with their
    time, model calls with their cost."""

    _runs: int = 0
    _model_calls: int = 0
    _tool_calls: int = 0
    _usage: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(_SUMMED, 0))
    _asked: datetime | None = None

    def render(self, record: Mapping[str, Any]) -> Text | None:
        """One record with the time of day before it; None for those that tell a person nothing."""
        self._count(record)
        body = _body(record) or self._model_call(record)
        if body is None:
            return None
        return Text.assemble((f"{_time_of_day(record)}  ", "dim"), body)

    @property
    def total(self) -> Text:
        """What all of it took."""
        counts = (
            (self._runs, "run"),
            (self._model_calls, "model call"),
            (self._tool_calls, "tool call"),
        )
        told = ", ".join(f"{count} {what}{'s' * (count != 1)}" for count, what in counts)
        return Text(f"total: {told}: {describe_usage(self._usage)}", style="bold")

    def _count(self, record: Mapping[str, Any]) -> None:
        match record:
            case {"type": "run_start"}:
                self._runs += 1
            case {"type": "tool_end"}:
                self._tool_calls += 1
            case {"type": "llm_start"}:
                self._asked = _moment(record)
            case {"type": "llm_end" | "child_llm_end"}:
                self._model_calls += 1
                for name in _SUMMED:
                    self._usage[name] += record.get(name) or 0

    def _model_call(self, record: Mapping[str, Any]) -> Text | None:
        if record.get("type") != "llm_end":
            return None
        answered = _moment(record)
        took = ""
        if self._asked is not None and answered is not None:
            took = f" in {_seconds((answered - self._asked).total_seconds())}"
        model = plain(str(record.get("model", "")))
        return Text(f"· {model} answered{took}: {describe_usage(record)}", style="dim")


def _body(record: Mapping[str, Any]) -> Text | None:
    match record:
        case {"type": "run_start", "prompt": prompt}:
            return Text.assemble(("run  ", "bold magenta"), plain(str(prompt)))
        case {"type": "message", "role": "assistant", "content": str(text)} if text:
            return Text(plain(text))
        case {"type": "tool_start", "tool_name": name, "tool_args": dict(arguments)}:
            return Text.assemble(("→ ", "bold cyan"), describe_call(str(name), arguments))
        case {"type": "tool_end", "tool_name": name, "success": success}:
            result = str(record.get("result", ""))
            return render_result(f"{name}{_took(record)}", result, {"success": success})
        case {"type": "tool_blocked", "tool_name": name, "tool_args": dict(arguments)}:
            return Text.assemble(("✗ not allowed: ", "yellow"), describe_call(str(name), arguments))
        case {"type": "approval_required", "tool_name": name, "tool_args": dict(arguments)}:
            call = describe_call(str(name), arguments)
            return Text.assemble(("? waits for an approval: ", "yellow"), call)
        case {"type": "error" | "cancelled" as kind, "message": message}:
            return Text(f"✗ {kind}: {plain(str(message))}", style="red")
        case {"type": "run_end", "status": status}:
            usage = record.get("usage")
            cost = f": {describe_usage(usage)}" if isinstance(usage, dict) else ""
            return Text(f"{plain(str(status))}{cost}", style="bold")
        case _:
            change = _change(record)
            return None if change is None else Text(plain(change), style="yellow")


def _change(record: Mapping[str, Any]) -> str | None:
    """What is another way from here on."""
    match record:
        case {"type": "compact", "tokens_before": before, "tokens_after": after}:
            return f"compacted: {before} -> {after} tokens"
        case {"type": "llm_retry", "reason": why, "wait": int() | float() as wait}:
            return f"{why}, retried after {_seconds(wait)}"
        case {"type": "rules_changed", "profile": profile, "approvals": approvals}:
            return f"rules changed: profile {profile}, approvals {approvals}"
        case _:
            return None


def _took(record: Mapping[str, Any]) -> str:
    duration = record.get("duration_ms")
    return f" in {_seconds(duration / 1000)}" if isinstance(duration, int | float) else ""


def _seconds(duration: float) -> str:
    return f"{duration:.1f} s" if duration >= 1 else f"{duration * 1000:.0f} ms"


def _moment(record: Mapping[str, Any]) -> datetime | None:
    try:
        return datetime.fromisoformat(str(record.get("ts")))
    except ValueError:
        return None


def _time_of_day(record: Mapping[str, Any]) -> str:
    moment = _moment(record)
    return " " * 8 if moment is None else moment.astimezone().strftime("%H:%M:%S")
