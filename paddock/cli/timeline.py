"""A trace as lines for a person: a projection of its records, one by one."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.text import Text

from paddock.cli.render import describe_call, describe_usage, render_result
from paddock.cli.text import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["render_record"]


def render_record(record: Mapping[str, Any]) -> Text | None:
    """One record with the time of day before it; None for those that tell a person nothing."""
    body = _body(record)
    if body is None:
        return None
    return Text.assemble((f"{_time(record)}  ", "dim"), body)


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
            return render_result(str(name), result, {"success": success})
        case {"type": "tool_blocked", "tool_name": name, "tool_args": dict(arguments)}:
            return Text.assemble(("✗ not allowed: ", "yellow"), describe_call(str(name), arguments))
        case {"type": "error" | "cancelled" as kind, "message": message}:
            return Text(f"✗ {kind}: {plain(str(message))}", style="red")
        case {"type": "compact", "tokens_before": before, "tokens_after": after}:
            return Text(f"compacted: {before} -> {after} tokens", style="yellow")
        case {"type": "run_end", "status": status}:
            usage = record.get("usage")
            cost = f": {describe_usage(usage)}" if isinstance(usage, dict) else ""
            return Text(f"{plain(str(status))}{cost}", style="bold")
        case _:
            return None


def _time(record: Mapping[str, Any]) -> str:
    try:
        return datetime.fromisoformat(str(record.get("ts"))).astimezone().strftime("%H:%M:%S")
    except ValueError:
        return "        "
