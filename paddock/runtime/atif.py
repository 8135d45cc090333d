"""A trace as an ATIF trajectory, the format that collections of agents' runs share.

A projection of the trace's records, like the state and the timeline. A message is a
step; a tool's result is part of the step that called it, a model call's usage of the
step that it wrote.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock._directory import PrivateDirectory
from paddock.runtime.conversation.trace import MAX_TRACE, read_records

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from paddock.runtime.conversation.records import Record

__all__ = ["SCHEMA_VERSION", "trace_to_atif"]

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
    if agent_version is None:
        from importlib.metadata import version

        agent_version = version("paddock")
    told = _Trajectory()
    for record in read_records(_read(Path(path))).records:
        told.take(record)
    return {
        "schema_version": SCHEMA_VERSION,
        "session_id": session_id,
        "agent": {
            "name": agent_name,
            "version": agent_version,
            "model_name": model_name or told.model,
        },
        "steps": told.steps,
        "final_metrics": {
            "total_steps": len(told.steps),
            **_metrics(told.totals, prefix="total_"),
        },
    }


def _read(trace: Path) -> bytes:
    return PrivateDirectory(trace.parent, shared=True).read(trace.name, MAX_TRACE)


@dataclass
class _Trajectory:
    """What the records up to now tell."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    totals: dict[str, Any] = field(default_factory=lambda: _numbers({}))
    model: str | None = None
    _usage: dict[str, Any] | None = None
    _callers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def take(self, record: Record) -> None:
        handler = _HANDLERS.get(record["type"])
        if handler is not None:
            handler(self, record)

    def _start_model(self, record: Record) -> None:
        self.model = self.model or record.get("model")

    def _end_model(self, record: Record) -> None:
        usage = {"cached_tokens": record.get("cache_read_tokens"), **record}
        self._usage = _metrics(usage)
        self._add(usage)

    def _add(self, record: Record) -> None:
        for name, value in _numbers(record).items():
            self.totals[name] += value

    def _restore_usage(self, record: Record) -> None:
        self.totals = _numbers(record)

    def _add_message(self, record: Record) -> None:
        if record["role"] == "tool":
            self._add_result(record)
            return
        step = self._add_step(_SOURCES.get(record["role"], "system"), record)
        if step["source"] != "agent":
            return
        if calls := record.get("tool_calls"):
            step["tool_calls"] = [_call(call) for call in calls]
            self._callers.update((call["id"], step) for call in calls)
        if self._usage is not None:
            step["metrics"], self._usage = self._usage, None

    def _add_result(self, record: Record) -> None:
        result = {"source_call_id": record["tool_call_id"], "content": _text(record)}
        step = self._callers.get(record["tool_call_id"])
        if step is None:  # its call was in a part that the trace does not have
            step = self._add_step("system", {**record, "content": ""})
            result["source_call_id"] = None
        step.setdefault("observation", {"results": []})["results"].append(result)

    def _compact(self, record: Record) -> None:
        self._usage = None  # the summary's own model call is in the totals only
        self._add_step("system", {**record, "content": record.get("summary")})

    def _add_step(self, source: str, record: Record) -> dict[str, Any]:
        step: dict[str, Any] = {
            "step_id": len(self.steps) + 1,
            "source": source,
            "message": _text(record),
        }
        if "ts" in record:
            step["timestamp"] = record["ts"]
        self.steps.append(step)
        return step


_HANDLERS: Mapping[str, Callable[[_Trajectory, Record], None]] = {
    "message": _Trajectory._add_message,
    "llm_start": _Trajectory._start_model,
    "llm_end": _Trajectory._end_model,
    "child_llm_end": _Trajectory._add,
    "usage": _Trajectory._restore_usage,
    "compact": _Trajectory._compact,
}


def _numbers(usage: Mapping[str, Any]) -> dict[str, Any]:
    return {name: usage.get(name) or 0 for name in (*_USAGE_NAMES, *_EXTRA_NAMES)}


def _metrics(usage: Mapping[str, Any], *, prefix: str = "") -> dict[str, Any]:
    """`usage` under the names of the format; what was not used is not among the `extra`."""
    numbers = _numbers(usage)
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
    """The arguments as an object, which ATIF asks for; text that is none stands in one."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    return parsed if isinstance(parsed, dict) else {"raw": text}


def _text(record: Record) -> str:
    content = record.get("content")
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
