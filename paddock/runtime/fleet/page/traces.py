"""What the page shows of an agent's trace: its steps, in few words. Blocks."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

from paddock.runtime.fleet.page.excerpts import read_ends, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["steps_of"]

STEPS = 60
"""Most steps of one trace, half of them the last ones: there it failed."""

MOST_READ = 2**20
"""Bytes of one trace."""

TEXT = 700
"""Characters of one step."""

Step = dict[str, Any]

_NOTES = {
    "llm_retry": "reason",
    "error": "message",
    "cancelled": "message",
    "truncated": "message",
    "approval_required": "note",
    "tool_blocked": "result",
    "run_end": "status",
}
"""Records that are shown as they are, by the field that says most."""


def steps_of(path: Path) -> list[Step]:
    """Return the steps of the trace at `path`, each with a `kind`, a `title` and a `text`.

    `at` are seconds since the first one, and `seconds` how long it took. Steps that are left
    out in the middle are one of the kind "gap".
    """
    steps = list(_Reader().steps(_records(path)))
    if len(steps) <= STEPS:
        return steps
    half = STEPS // 2
    gap = {"kind": "gap", "title": f"{len(steps) - 2 * half} steps are not shown"}
    return [*steps[:half], gap, *steps[-half:]]


def _records(path: Path) -> Iterator[dict[str, Any]]:
    head, tail = read_ends(path, MOST_READ)
    for line in (*head.split(b"\n"), *tail.split(b"\n")[1:]):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):  # cut in two
            continue
        if isinstance(record, dict):
            yield record


class _Reader:
    """Puts the records of a call or a tool call together."""

    def __init__(self) -> None:
        self._began: dt.datetime | None = None
        self._asked: float = 0.0
        self._open: dict[str, Step] = {}

    def steps(self, records: Iterable[dict[str, Any]]) -> Iterator[Step]:
        for record in records:
            step = self._step(record, self._at(record))
            if step is not None:
                yield step

    def _at(self, record: dict[str, Any]) -> float:
        try:
            when = dt.datetime.fromisoformat(str(record.get("ts")))
            self._began = self._began or when
            return round((when - self._began).total_seconds(), 3)
        except (ValueError, TypeError):  # another program's, with other times
            return 0.0

    def _step(self, record: dict[str, Any], at: float) -> Step | None:
        match record.get("type"):
            case "message":
                return self._message(record, at)
            case "llm_start":
                self._asked = at
            case "llm_end":
                return _model(record, self._asked, at)
            case "tool_start":
                return self._tool(record, at)
            case "tool_end":
                self._tool_ended(record)
            case str(kind) if kind in _NOTES:
                said = record.get(_NOTES[kind])
                return _step("note", at, kind.replace("_", " "), said)
        return None

    def _message(self, record: dict[str, Any], at: float) -> Step | None:
        text = _text(record.get("content"))
        match record.get("role"):
            case "user":
                return _step("prompt", at, "Prompt", text)
            case "assistant" if text:
                return _step("answer", at, "Answer", text)
            case "tool":
                if (call := self._open.get(str(record.get("tool_call_id")))) is not None:
                    call["result"] = shortened(text, TEXT)
        return None

    def _tool(self, record: dict[str, Any], at: float) -> Step:
        arguments = json.dumps(record.get("tool_args"), ensure_ascii=False)
        step = _step("tool", at, str(record.get("tool_name")), arguments)
        self._open[str(record.get("tool_call_id"))] = step
        return step

    def _tool_ended(self, record: dict[str, Any]) -> None:
        step = self._open.pop(str(record.get("tool_call_id")), None)
        if step is not None:
            step["seconds"] = round(_number(record.get("duration_ms")) / 1000, 3)
            step["failed"] = record.get("success") is False


def _model(record: dict[str, Any], asked: float, at: float) -> Step:
    tokens = [
        f"{int(_number(record.get(f'{name}_tokens'))):,} {name}" for name in ("input", "output")
    ]
    step = _step("model", asked, str(record.get("model")), f"{' and '.join(tokens)} tokens")
    return step | {"seconds": round(at - asked, 3), "cost": _number(record.get("cost_usd"))}


def _step(kind: str, at: float, title: str, text: object) -> Step:
    return {
        "kind": kind,
        "at": at,
        "title": shortened(title, 80),
        "text": shortened("" if text is None else str(text), TEXT),
    }


def _text(content: object) -> str:
    """Return the text of a message, which may have images too."""
    if isinstance(content, list):
        parts = (each for each in content if isinstance(each, dict))
        return "\n".join(str(each.get("text", "[image]")) for each in parts)
    return content if isinstance(content, str) else ""


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
