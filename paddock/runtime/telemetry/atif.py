"""A session as an ATIF trajectory, the format that collections of agents' runs share.

A projection of events, as they happen or as a trace tells them. A message is a step; a tool's
result is part of the step that called it, a model call's usage of the step that it wrote.
"""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock._directory import PrivateDirectory
from paddock.runtime.conversation.records import UsageSnapshot, stored_event, usage_fields
from paddock.runtime.conversation.trace import MAX_TRACE, read_records
from paddock.runtime.core.emitter import EventSink
from paddock.runtime.core.events import (
    ChildModelFinished,
    CompactionFinished,
    MessageAdded,
    ModelFinished,
    ModelStarted,
    ToolBlocked,
    ToolFinished,
)
from paddock.runtime.core.model import Usage
from paddock.runtime.models._content import text_of

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from paddock.runtime.core.emitter import Envelope
    from paddock.runtime.core.events import Event
    from paddock.runtime.core.model import Message

__all__ = ["SCHEMA_VERSION", "Trajectory", "trace_to_atif"]

SCHEMA_VERSION = "ATIF-v1.6"

_USAGE_NAMES = {
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
    "cached_tokens": "cached_tokens",
    "cost_usd": "cost_usd",
}
_EXTRA_NAMES = ("cache_write_tokens", "reasoning_tokens")
"""What the format has no name for stands in its `extra`, under ours."""
_SOURCES = {"user": "user", "assistant": "agent"}


def trace_to_atif(
    path: str | os.PathLike[str],
    *,
    session_id: str,
    agent_name: str = "paddock",
    agent_version: str | None = None,
    model_name: str | None = None,
) -> dict[str, Any]:
    """The trajectory that the trace at `path` tells, as JSON objects hold it.

    `agent_version` is Paddock's own unless given, `model_name` the first model that was
    asked. A torn last line is left out. Blocks while it reads. Raises `OSError`, and
    `TraceError` for a damaged trace.
    """
    told = Trajectory(
        session_id=session_id,
        agent_name=agent_name,
        agent_version=agent_version,
        model_name=model_name,
    )
    for record in read_records(_read(Path(path))).records:
        if (event := stored_event(record)) is not None:
            told.take(event, record.get("ts"))
    return told.to_dict()


def _read(trace: Path) -> bytes:
    return PrivateDirectory(trace.parent, shared=True).read(trace.name, MAX_TRACE)


@dataclass(kw_only=True)
class Trajectory(EventSink):
    """What the events up to now tell. As a sink it makes the trajectory of a run as it happens."""

    session_id: str
    agent_name: str = "paddock"
    agent_version: str | None = None
    model_name: str | None = None
    _steps: list[dict[str, Any]] = field(default_factory=list)
    _total: Usage = field(default_factory=Usage)
    _usage: Usage | None = None
    """Of a model call whose answer is to come."""
    _callers: dict[str, dict[str, Any]] = field(default_factory=dict)
    _results: dict[str, dict[str, Any]] = field(default_factory=dict)

    def keep(self, envelope: Envelope) -> None:
        if envelope.session_id == self.session_id:
            self.take(envelope.event, envelope.at.isoformat())

    def take(self, event: Event | UsageSnapshot, time: str | None) -> None:
        """Take what happened at `time` (ISO 8601)."""
        match event:
            case ModelStarted():
                self.model_name = self.model_name or event.model or None
            case ModelFinished():
                self._usage = event.usage
                self._total += event.usage
            case ChildModelFinished():
                self._total += event.usage
            case UsageSnapshot():
                self._total = event.total
            case MessageAdded():
                self._add_message(event.message, time)
            case ToolFinished() | ToolBlocked():
                self._add_result(event.call_id, event.content, time)
            case CompactionFinished():
                self._usage = None  # the summary's own model call is in the totals only
                self._add_step("system", event.summary, time)

    def to_dict(self) -> dict[str, Any]:
        """The trajectory, as JSON objects hold it."""
        version = self.agent_version or importlib.metadata.version("paddock")
        agent = {"name": self.agent_name, "version": version, "model_name": self.model_name}
        totals = _metrics(self._total, prefix="total_")
        return {
            "schema_version": SCHEMA_VERSION,
            "session_id": self.session_id,
            "agent": agent,
            "steps": self._steps,
            "final_metrics": {"total_steps": len(self._steps), **totals},
        }

    def _add_message(self, message: Message, time: str | None) -> None:
        text = text_of(message.get("content"))
        if message["role"] == "tool":
            self._add_result(message["tool_call_id"], text, time)
            return
        step = self._add_step(_SOURCES.get(message["role"], "system"), text, time)
        if step["source"] != "agent":
            return
        if calls := message.get("tool_calls"):
            step["tool_calls"] = [_call(call) for call in calls]
            for call in calls:
                self._callers[call["id"]] = step
                self._results.pop(call["id"], None)
        if self._usage is not None:
            step["metrics"], self._usage = _metrics(self._usage), None

    def _add_result(self, call_id: str, content: str, time: str | None) -> None:
        """Add the result of a call. A trace tells it twice, and of another program in any order."""
        known = self._results.get(call_id)
        if known is not None:
            known["content"] = known["content"] or content
            return
        result: dict[str, Any] = {"source_call_id": call_id, "content": content}
        self._results[call_id] = result
        step = self._callers.get(call_id)
        if step is None:  # its call was in a part that the trace does not have
            step = self._add_step("system", "", time)
            result["source_call_id"] = None
        step.setdefault("observation", {"results": []})["results"].append(result)

    def _add_step(self, source: str, message: str, time: str | None) -> dict[str, Any]:
        step: dict[str, Any] = {
            "step_id": len(self._steps) + 1,
            "source": source,
            "message": message,
        }
        if time is not None:
            step["timestamp"] = time
        self._steps.append(step)
        return step


def _metrics(usage: Usage, *, prefix: str = "") -> dict[str, Any]:
    """`usage` under the names of the format; what was not used is not among the `extra`."""
    numbers = usage_fields(usage)
    metrics = {f"{prefix}{name}": numbers[key] for key, name in _USAGE_NAMES.items()}
    extra = {f"{prefix}{name}": numbers[name] for name in _EXTRA_NAMES if numbers[name]}
    return metrics | ({"extra": extra} if extra else {})


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {
        "tool_call_id": call["id"],
        "function_name": function["name"],
        "arguments": _arguments(function["arguments"]),
    }


def _arguments(text: str) -> dict[str, Any]:
    """The arguments as an object, which ATIF asks for; invalid text is wrapped in one."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    return parsed if isinstance(parsed, dict) else {"raw": text}
