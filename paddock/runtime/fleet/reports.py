"""What others read of a batch: summary.json, JUnit, and the summary of a step in CI."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from paddock.runtime.fleet.faults import is_infrastructure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from paddock.runtime.fleet.ledger import Entry

__all__ = ["github_annotations", "junit", "step_summary", "summary"]

MOST_ANNOTATIONS = 10
"""GitHub shows no more of one step."""

_UNPRINTABLE = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold."""


def summary(counts: Mapping[str, int], code: int | None, gave_up: str | None) -> str:
    """Return summary.json: how many tasks ended how, and the exit code, unless it was stopped."""
    told = {
        "total": sum(counts.values()),
        "completed": counts.get("completed", 0),
        "unfinished": counts.get("pending", 0) + counts.get("running", 0),
        "faults": {name: n for name, n in counts.items() if name not in _NO_FAULT},
        "exit_code": code,
        "gave_up": gave_up,
    }
    return json.dumps(told, indent=2) + "\n"


_NO_FAULT = ("completed", "pending", "running")


def junit(
    suite: str, counts: Mapping[str, int], entries: Iterable[Entry], unfinished: Iterable[str]
) -> str:
    """Return JUnit XML: a failure is the task's, an error the infrastructure's or the
    configuration's, and what was cancelled or did not finish is skipped."""
    sums = dict.fromkeys(("", "failure", "error", "skipped"), 0)
    for state, number in counts.items():
        sums[_kind(state)] += number
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites><testsuite name={_quoted(suite)} tests="{sum(counts.values())}" '
        f'failures="{sums["failure"]}" errors="{sums["error"]}" skipped="{sums["skipped"]}">',
    ]
    lines += (_case(entry) for entry in entries)
    lines += (_tag(key, 0.0, "skipped", "not finished") for key in unfinished)
    lines.append("</testsuite></testsuites>")
    return "\n".join(lines) + "\n"


def _kind(state: str) -> str:
    """Return what JUnit calls a task that is in this state of `Ledger.counts`."""
    match state:
        case "completed":
            return ""
        case "cancelled" | "pending" | "running":
            return "skipped"
        case "task.failed" | "task.timeout" | "task.oom" | "budget" | "poison":
            return "failure"
        case _:
            return "error"


def _case(entry: Entry) -> str:
    attempt, seconds = entry.attempt, entry.ended - entry.began
    fault = attempt.fault or ""
    return _tag(attempt.key, seconds, _kind(fault or "completed"), attempt.message, fault)


def _tag(key: str, seconds: float, kind: str, message: str, fault: str = "") -> str:
    head = f'<testcase classname="paddock" name={_quoted(key)} time="{seconds:.3f}"'
    if not kind:
        return f"{head}/>"
    first = message.partition("\n")[0]
    about = f" type={_quoted(fault)}" if fault and kind != "skipped" else ""
    body = escape(_UNPRINTABLE.sub("?", message))
    return f"{head}><{kind} message={_quoted(first)}{about}>{body}</{kind}></testcase>"


def _quoted(text: str) -> str:
    return quoteattr(_UNPRINTABLE.sub("?", text))


def step_summary(counts: Mapping[str, int], failed: Sequence[Entry], gave_up: str | None) -> str:
    """Return Markdown for the summary of a step in GitHub Actions; `failed` are the first ones."""
    lines = ["### paddock map", "", "| tasks | |", "|---|---|"]
    lines += [f"| {name} | {counts[name]} |" for name in sorted(counts)]
    lines += ["", f"Gave up: {_cell(gave_up)}"] if gave_up else []
    if failed:
        lines += ["", "| task | fault | |", "|---|---|---|"]
    lines += [
        f"| {_cell(each.key)} | {each.fault} | {_cell(each.message)} |"
        for each in (entry.attempt for entry in failed)
    ]
    more = sum(n for name, n in counts.items() if name not in _NO_FAULT) - len(failed)
    lines += ["", f"and {more} more"] if more > 0 else []
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    line = " ".join(_UNPRINTABLE.sub("?", text).split())[:200]
    return escape(line).replace("|", "\\|").replace("`", "'")


def github_annotations(failed: Sequence[Entry]) -> list[str]:
    """Return commands that show failed tasks in GitHub Actions, at most ten."""
    return [
        f"::{'warning' if is_infrastructure(each.fault) else 'error'} "
        f"title={_escaped(each.key, ':,')}::{_escaped(f'{each.fault}: {each.message}')}"
        for each in (entry.attempt for entry in failed[:MOST_ANNOTATIONS])
    ]


def _escaped(text: str, more: str = "") -> str:
    for character in f"%\r\n{more}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text
